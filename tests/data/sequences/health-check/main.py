import asyncio

async def run(context, input):
    context.set_health_check(lambda: {"healthy": False, "why": "tired"})
    async for line in input:
        print(line.strip())
