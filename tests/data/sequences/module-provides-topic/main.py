provides = {"provides": "corpus-provided", "contentType": "text/plain"}

def run(context, input):
    return input.map(str.upper)
