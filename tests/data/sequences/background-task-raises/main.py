import asyncio

async def failing():
    raise ValueError("in the background")

async def run(context, input):
    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    del task
    yield "whole"
