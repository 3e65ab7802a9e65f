def run(context, input, *args):
    print(args)
