from scramjet.streams import Stream

async def run(context, input):
    total = await input.map(int).reduce(lambda total, number: total + number, 0)
    return Stream.read_from([f"total {total}"])
