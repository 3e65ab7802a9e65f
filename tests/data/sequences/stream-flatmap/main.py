def run(context, input):
    return input.flatmap(lambda line: [word + "\n" for word in line.split()])
