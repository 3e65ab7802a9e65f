from scramjet.streams import Stream

def run(context, input, count):
    return Stream.read_from(range(count)).map(lambda number: f"{number}\n")
