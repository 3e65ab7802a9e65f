provides = {"provides": "corpus-objects", "contentType": "application/x-ndjson"}

async def run(context, input):
    async for line in input:
        yield {"line": line.strip()}
