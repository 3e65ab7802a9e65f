import asyncio

async def answer():
    await asyncio.sleep(0)
    return "42"

def run(context, input):
    yield asyncio.run(answer())
