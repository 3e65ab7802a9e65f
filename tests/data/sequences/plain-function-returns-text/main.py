def run(context, input):
    return "plain"
