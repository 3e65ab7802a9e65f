import sys

def run(context, input):
    print("last words")
    sys.exit(3)
