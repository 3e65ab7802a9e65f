def run(context, input):
    output = input.map(lambda line: {"line": line.strip()})
    output.provides = "corpus-result"
    output.content_type = "application/x-ndjson"
    return output
