async def run(context, input):
    return 42
