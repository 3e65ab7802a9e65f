def numbered(stream):
    numbers = iter(range(1, 100))
    return stream.map(lambda line: f"{next(numbers)} {line}")

def run(context, input):
    return input.use(numbered)
