def run(context, input):
    return input.sequence(lambda partial, line: (partial + line.strip()).split(";"), "").map(lambda part: part + "\n")
