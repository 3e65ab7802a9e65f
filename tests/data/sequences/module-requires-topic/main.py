requires = {"requires": "corpus-required", "contentType": "text/plain"}

def run(context, input):
    return input.map(str.upper)
