import asyncio
from scramjet.streams import Stream

async def fill(output):
    for number in range(3):
        output.write(f"{number}\n")
        await asyncio.sleep(0)
    output.end()

def run(context, input):
    output = Stream()
    asyncio.get_event_loop().create_task(fill(output))
    return output
