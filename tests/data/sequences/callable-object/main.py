class Doubler:
    def __init__(self, times):
        self.times = times

    def __call__(self, context, input):
        return input.map(lambda line: line * self.times)

run = Doubler(2)
