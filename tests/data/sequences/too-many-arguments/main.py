def run(context, input, only):
    print(only)
