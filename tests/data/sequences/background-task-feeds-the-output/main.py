import asyncio

async def run(context, input):
    queue = asyncio.Queue()

    async def feed():
        async for line in input:
            await queue.put(line)
        await queue.put(None)

    feeding = asyncio.create_task(feed())
    while (line := await queue.get()) is not None:
        yield line
    await feeding
