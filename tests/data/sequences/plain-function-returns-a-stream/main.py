def run(context, input):
    return input.map(str.lower)
