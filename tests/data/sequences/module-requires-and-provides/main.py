requires = {"requires": "corpus-in", "contentType": "text/plain"}
provides = {"provides": "corpus-out", "contentType": "text/plain"}

def run(context, input):
    return input.map(lambda line: "got " + line)
