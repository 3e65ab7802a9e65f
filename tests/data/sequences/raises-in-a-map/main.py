def run(context, input):
    return input.map(lambda line: str(1 / int(line)))
