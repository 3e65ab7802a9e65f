async def run(context, input):
    return (str(number) for number in range(5))
