from pathlib import Path

WORD = (Path(__file__).parent / "word.txt").read_text()

def run(context, input):
    print(WORD, end="")
