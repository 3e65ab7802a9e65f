from příšerně import žluť

def run(context, input):
    return input.map(lambda line: line.strip() + žluť())
