output_type = "text/x-ndjson"

async def run(context, input):
    yield [1, 2]
    yield "three"
