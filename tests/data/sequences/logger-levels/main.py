def run(context, input):
    context.logger.debug("d")
    context.logger.info("i %d", 7)
    context.logger.warn("w")
    context.logger.error("e")
    context.logger.critical("c")
