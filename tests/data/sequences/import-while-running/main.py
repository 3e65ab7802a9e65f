def run(context, input):
    def late(line):
        from later import answer

        return answer(line)

    return input.map(late)
