async def run(context, input):
    count = 0
    async for line in input:
        count += 1
    print(count, "lines")
