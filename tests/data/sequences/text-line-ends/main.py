def run(context, input):
    return input.map(lambda line: repr(line) + ";")
