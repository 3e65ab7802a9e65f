async def run(context, input):
    async for line in input:
        yield str(len(line))
