def with_line_end(text):
    return text + "\n"
