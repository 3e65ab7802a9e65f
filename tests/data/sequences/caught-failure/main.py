def run(context, input):
    def number(line):
        try:
            return str(int(line)) + "\n"
        except ValueError:
            return "none\n"

    return input.map(number)
