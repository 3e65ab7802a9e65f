def run(context, input):
    return input.decode("utf-8").match(r"#(\w+)").map(lambda tag: tag + "\n")
