import asyncio

async def run(context, input):
    came = asyncio.get_running_loop().create_future()
    context.on("ping", came.set_result)
    context.emit("ready")
    print(await came)
