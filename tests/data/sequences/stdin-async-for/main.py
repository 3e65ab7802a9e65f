import sys

async def run(context, input):
    async for line in sys.stdin:
        print(line.strip().upper())
