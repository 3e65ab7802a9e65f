output_type = "application/x-ndjson"

async def run(context, input):
    return {"a": [1, None], "ü": True}
