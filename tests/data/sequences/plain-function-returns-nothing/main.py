def run(context, input):
    print("done")
