import asyncio

async def run(context, input):
    await asyncio.sleep(0)
    return "all of it"
