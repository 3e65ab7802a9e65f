def run(context, stream):
    name = input("name? ")
    print("Hello", name)
