def run(context, input):
    print(__name__)
