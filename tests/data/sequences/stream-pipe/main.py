from scramjet.streams import Stream

def run(context, input):
    output = Stream()
    input.map(str.title).pipe(output)
    return output
