import json

def run(context, input):
    return input.decode("utf-8").split("|").parse(json.loads).map(lambda row: row["name"] + "\n")
