from scramjet.streams import Stream

async def run(context, input):
    with open("data/words.txt") as file:
        return Stream.read_from(file.readlines())
