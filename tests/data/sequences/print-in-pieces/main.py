import sys

def run(context, input):
    print("a", end="")
    print("b", "c", sep="-")
    sys.stdout.write("ž\n")
    print("to stderr", file=sys.stderr)
