async def run(context, input):
    yield "text\n"
    yield {"a": 1}
