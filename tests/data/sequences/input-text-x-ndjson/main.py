async def run(context, input):
    async for value in input:
        yield value["n"]
