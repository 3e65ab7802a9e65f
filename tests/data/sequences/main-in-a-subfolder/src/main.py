import helper

def run(context, input):
    with open("word.txt") as file:
        print(helper.decorate(file.read().strip()))
