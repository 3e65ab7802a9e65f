import json

def run(context, input, *args):
    print(json.dumps(args))
