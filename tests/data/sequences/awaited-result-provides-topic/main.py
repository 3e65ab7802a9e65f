from scramjet.streams import Stream

provides = {"provides": "corpus-not-this-one", "contentType": "application/octet-stream"}

async def run(context, input):
    output = Stream.read_from(["x\n", "y\n"])
    output.provides = "corpus-awaited"
    output.content_type = "text/plain"
    return output
