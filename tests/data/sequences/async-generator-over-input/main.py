async def run(context, input, *args):
    async for line in input:
        yield f"{len(line)} {line}"
