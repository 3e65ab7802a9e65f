def down(depth):
    return down(depth + 1)

def run(context, input):
    return down(0)
