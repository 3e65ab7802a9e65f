output_type = "image/png"

def run(context, input):
    return input.map(lambda line: b"\x89PNG")
