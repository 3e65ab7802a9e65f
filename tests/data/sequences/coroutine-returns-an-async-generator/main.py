async def numbered(lines):
    number = 0
    async for line in lines:
        number += 1
        yield f"{number}: {line}"

async def run(context, input):
    return numbered(input)
