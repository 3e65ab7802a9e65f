"""Text that comes in chunks cut anywhere, made whole: characters, lines, and the parts between separators."""

import codecs
import re
from typing import Any


class TextDecoder:
    """Bytes become text; a character whose bytes are not all there waits for the rest.

    Raises:
        LookupError: there is no such encoding.
    """

    def __init__(self, encoding: str, errors: str = "strict") -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)

    def feed(self, chunk: Any) -> list[str]:
        """Return the text that a chunk completes: one piece, or none.

        Raises:
            UnicodeDecodeError: the bytes are not in the encoding. What had waited for its rest is forgotten with them.
            TypeError: the chunk is not bytes.
        """
        if isinstance(chunk, str):
            raise TypeError(f"decode() reads bytes, and {chunk[:40]!r} is text already")
        try:
            text = self._decoder.decode(chunk)
        except UnicodeDecodeError:
            self._decoder.reset()
            raise
        return [text] if text else []

    def end(self) -> list[str]:
        """Return what is left; with ``strict`` errors an unfinished character is an error."""
        text = self._decoder.decode(b"", final=True)
        return [text] if text else []


class Splitter:
    """Text becomes the parts between separators, however it was cut.

    The last part is what stands behind the last separator, if that is any text at all.
    """

    def __init__(self, separator: str) -> None:
        if not separator:
            raise ValueError("split() needs a separator that is not empty, or none for white space")
        self._separator = separator
        self._reach = len(separator) - 1  # characters of a separator that may stand before a cut
        self._held: list[str] = []  # joined when a separator shows up: a long part is copied once
        self._border = ""

    def feed(self, chunk: Any) -> list[str]:
        """Return the parts that a chunk completes.

        Raises:
            TypeError: the chunk is not text.
        """
        text = _text(chunk, "split")
        self._held.append(text)
        seen = self._border + text
        if self._separator not in seen:
            self._border = seen[-self._reach :] if self._reach else ""
            return []
        *parts, last = "".join(self._held).split(self._separator)
        self._held = [last]
        self._border = last[-self._reach :] if self._reach else ""
        return parts

    def end(self) -> list[str]:
        """Return what stands behind the last separator, if anything does."""
        last = "".join(self._held)
        self._held, self._border = [], ""
        return [last] if last else []


class WordSplitter:
    """Text becomes its words, which are what stands between white space, however it was cut."""

    def __init__(self) -> None:
        self._held: list[str] = []

    def feed(self, chunk: Any) -> list[str]:
        """Return the words that a chunk completes.

        Raises:
            TypeError: the chunk is not text.
        """
        text = _text(chunk, "split")
        if not text:
            return []
        if len(text.split(None, 1)) == 1 and not text[0].isspace() and not text[-1].isspace():
            self._held.append(text)
            return []
        words = "".join((*self._held, text)).split()
        self._held = [] if text[-1].isspace() else [words.pop()]
        return words

    def end(self) -> list[str]:
        """Return the word that the text ends with, if no white space follows it."""
        last = "".join(self._held)
        self._held = []
        return [last] if last else []


class Matcher:
    """Text becomes what a pattern finds in it, the groups of a match one by one where the pattern has groups.

    Chunks are whole, or, if ``lines``, cut anywhere: then the pattern sees one line at a time, with its line end, and a match
    never spans two.
    """

    def __init__(self, pattern: str | re.Pattern[str], *, lines: bool) -> None:
        compiled = re.compile(pattern)
        self._find = compiled.findall
        self._many = compiled.groups > 1  # findall gives tuples then
        self._lines = Splitter("\n") if lines else None

    def feed(self, chunk: Any) -> list[str]:
        """Return the matches that a chunk completes.

        Raises:
            TypeError: the chunk is not text.
        """
        if self._lines is None:
            return self._matches(_text(chunk, "match"))
        return [one for line in self._lines.feed(chunk) for one in self._matches(f"{line}\n")]

    def end(self) -> list[str]:
        """Return the matches in the last line, if it has no end."""
        if self._lines is None:
            return []
        return [one for line in self._lines.end() for one in self._matches(line)]

    def _matches(self, text: str) -> list[str]:
        found = self._find(text)
        return [group for groups in found for group in groups] if self._many else found


def _text(chunk: Any, method: str) -> str:
    if not isinstance(chunk, str):
        raise TypeError(f"{method}() reads text, and an item is {type(chunk).__name__}: use decode() first")
    return chunk
