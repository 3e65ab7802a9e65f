from functools import partial

def repeat(context, input, times=1, *, prefix):
    return input.map(lambda line: prefix + line * times)

run = partial(repeat, prefix="> ")
