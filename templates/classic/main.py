"""The classic form: a module with `run(context, input, *args)`. It imports nothing of hub-lite, and runs elsewhere too."""

from typing import Any

provides = {"contentType": "text/plain"}


def words(line: str, shortest: int) -> str:
    """Return the words of a line with their number in front; those that are shorter do not count."""
    found = [word for word in line.split() if len(word) >= shortest]
    return f"{len(found)} {' '.join(found)}".rstrip() + "\n"


def run(context: Any, input: Any, shortest: int = 1) -> Any:
    """Return the stream of what `words` makes of each line.

    A stream is the result that any runner takes; ours takes an async generator too.
    """
    context.logger.info("words of %d letters or more", shortest)
    return input.map(lambda line: words(line, shortest))
