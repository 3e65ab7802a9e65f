import hashlib

async def run(context, input):
    digest = hashlib.sha256()
    async for chunk in input:
        digest.update(chunk)
    print(digest.hexdigest())
