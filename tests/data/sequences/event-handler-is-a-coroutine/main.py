import asyncio

async def run(context, input):
    done = asyncio.Event()

    async def answer(message):
        await asyncio.sleep(0)
        context.emit("pong", message)
        done.set()

    context.on("ping", answer)
    context.emit("ready")
    await done.wait()
