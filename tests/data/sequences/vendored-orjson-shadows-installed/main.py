import orjson

output_type = "application/x-ndjson"

async def run(context, input):
    async for value in input:
        yield value
    yield orjson.WHOSE
