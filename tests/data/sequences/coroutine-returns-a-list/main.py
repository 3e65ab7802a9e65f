async def run(context, input):
    return ["a", "b", "c"]
