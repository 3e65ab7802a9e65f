import asyncio

async def run(context, input):
    asked = asyncio.Event()

    async def stop(timeout, can_keep_alive):
        await context.keep_alive(0)
        asked.set()

    context.set_stop_handler(stop, "ignored")
    context.emit("ready")
    await asked.wait()
    yield "lived on"
