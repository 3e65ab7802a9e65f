from runner.session import Session

def run(context, input):
    print(Session.whose)
    return input.map(str.upper)
