def run(context, input):
    return input.map(lambda line: line.strip() * 1024 * 1024 + "\n")
