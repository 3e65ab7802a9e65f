import sys

def run(context, input):
    first = sys.stdin.readline()
    rest = [line for line in sys.stdin]
    yield first + str(rest)
