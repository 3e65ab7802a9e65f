import scramjet.streams

def run(context, input):
    print(scramjet.streams.WHOSE)
