async def run(context, input):
    return ""
