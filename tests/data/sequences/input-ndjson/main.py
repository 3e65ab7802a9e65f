output_type = "application/x-ndjson"

async def run(context, input):
    async for value in input:
        yield [type(value).__name__, value]
