import runner

def run(context, input):
    print(runner.WHOSE)
