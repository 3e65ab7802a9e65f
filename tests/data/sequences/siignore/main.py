from pathlib import Path

def run(context, input):
    print(sorted(path.name for path in Path.cwd().iterdir() if path.suffix == ".txt"))
