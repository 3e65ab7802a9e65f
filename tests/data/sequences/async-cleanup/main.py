async def run(context, input):
    try:
        yield "one"
    finally:
        print("cleaned up")
