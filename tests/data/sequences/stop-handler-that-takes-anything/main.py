import asyncio

async def run(context, input):
    async def stop(*_):
        print("stopping")

    context.set_stop_handler(stop)
    context.emit("ready")
    await asyncio.Event().wait()
