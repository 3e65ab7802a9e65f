def run(self, input, *args):
    self.logger.info("hello")
    return input.map(lambda line: self.config["prefix"] + line)
