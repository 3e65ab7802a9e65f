from pathlib import Path

def žluť():
    return Path("kůň.txt").read_text(encoding="utf-8")
