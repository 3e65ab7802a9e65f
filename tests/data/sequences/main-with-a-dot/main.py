def run(context, input):
    print("found")
