output_type = "application/x-ndjson"

async def run(context, input):
    for item in (0, "", False, None, [], {}, 0.0):
        yield item
