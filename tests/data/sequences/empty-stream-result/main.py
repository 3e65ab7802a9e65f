def run(context, input):
    return input.filter(lambda line: False)
