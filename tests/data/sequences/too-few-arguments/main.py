def run(context, input, name, size):
    print(name)
