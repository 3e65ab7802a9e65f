from scramjet.streams import Stream

def run(context, input):
    return Stream.read_from(open("words.txt"), chunk_size=4).map(lambda chunk: chunk.strip() + "|")
