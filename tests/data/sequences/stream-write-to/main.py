class Target:
    def __init__(self):
        self.size = 0

    def write(self, chunk):
        self.size += len(chunk)

async def run(context, input):
    target = await input.write_to(Target())
    print(target.size)
