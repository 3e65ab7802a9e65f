def decorate(word):
    return f"* {word} *"
