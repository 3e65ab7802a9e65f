def work(logger):
    logger.info("theirs")
