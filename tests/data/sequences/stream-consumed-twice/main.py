from scramjet.streams import StreamAlreadyConsumed

def run(context, input):
    upper = input.map(str.upper)
    try:
        input.map(str.lower)
    except StreamAlreadyConsumed:
        print("used twice")
    return upper
