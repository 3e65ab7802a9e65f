def answer(line):
    return "later " + line
