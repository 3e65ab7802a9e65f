async def run(context, input):
    yield "one\n"
    yield "two\n"
