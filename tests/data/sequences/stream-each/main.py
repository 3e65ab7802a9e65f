def run(context, input):
    return input.each(lambda line: print("saw", line.strip()))
