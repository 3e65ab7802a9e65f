from scramjet.streams import Stream

async def run(context, input):
    return Stream.read_from(sorted(await input.to_list()))
