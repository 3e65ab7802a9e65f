import asyncio

async def later():
    for _ in range(100):
        await asyncio.sleep(0)
    print("the task is done")

async def run(context, input):
    asyncio.get_event_loop().create_task(later())
    print("run is done")
