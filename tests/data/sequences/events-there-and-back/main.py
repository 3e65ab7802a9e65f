import asyncio

async def run(context, input):
    done = asyncio.Event()

    def answer(message):
        context.emit("pong", {"got": message})
        done.set()

    context.on("ping", answer)
    context.emit("ready", 1)
    await done.wait()
    print("answered")
