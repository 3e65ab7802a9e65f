def run(context, input):
    return input.decode("utf-8").split().map(lambda word: f"[{word}]")
