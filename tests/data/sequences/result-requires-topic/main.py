def run(context, input):
    output = input.map(str.upper)
    output.requires = "corpus-wanted"
    output.content_type = "text/plain"
    return output
