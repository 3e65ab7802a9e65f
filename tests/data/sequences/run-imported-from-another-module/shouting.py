def run(context, input):
    return input.map(lambda line: line.rstrip().upper() + "!\n")
