def run(context, input):
    print("I have seen enough")
