def run(context, input):
    raise ValueError("by design")
