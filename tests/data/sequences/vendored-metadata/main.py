from importlib.metadata import version

def run(context, input):
    print(version("brought-along"))
