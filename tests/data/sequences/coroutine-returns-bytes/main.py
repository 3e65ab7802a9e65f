async def run(context, input):
    return "Zoë".encode()
