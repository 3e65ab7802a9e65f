output_type = "application/octet-stream"

def run(context, input):
    return input.map(lambda chunk: bytes(255 - byte for byte in chunk))
