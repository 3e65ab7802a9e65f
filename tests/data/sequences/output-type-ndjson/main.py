output_type = "application/x-ndjson"

def run(context, input):
    return input.map(lambda line: {"line": line.strip(), "length": len(line.strip())})
