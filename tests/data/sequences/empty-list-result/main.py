def run(context, input):
    return []
