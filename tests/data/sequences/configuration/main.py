import json

def run(context, input):
    print(json.dumps(context.config, sort_keys=True))
