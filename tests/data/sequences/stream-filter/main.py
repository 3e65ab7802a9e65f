def run(context, input):
    return input.filter(lambda line: "o" in line)
