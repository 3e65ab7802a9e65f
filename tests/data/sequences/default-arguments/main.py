def run(context, input, greeting="Hello", end="!\n"):
    return input.map(lambda name: f"{greeting} {name.strip()}{end}")
