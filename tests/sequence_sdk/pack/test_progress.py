"""The line of progress: what it says, how often, how wide it is, and that nothing of it is left."""

import fcntl
import io
import os
import struct
import sys
import termios
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.progress import ProgressLine, progress_line

ERASE = "\r\x1b[K"


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and can tell what was shown on it."""

    encoding: str = "utf-8"

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self.encoding = encoding

    def isatty(self) -> bool:
        return True

    def drawn(self) -> list[str]:
        """Every line that was drawn, the last one is what is there now."""
        return self.getvalue().split(ERASE)[1:]


class Gone(Terminal):
    """A terminal that fails after a number of writes."""

    def __init__(self, after: int, error: Exception) -> None:
        super().__init__()
        self.after = after
        self.error = error

    def write(self, text: str) -> int:
        if self.after == 0:
            raise self.error
        self.after -= 1
        return super().write(text)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


def cells(line: str) -> int:
    """Columns that a line takes at least on any terminal: marks over letters take none on most."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    return wide + sum(not unicodedata.combining(char) for char in line)


def test_a_line_has_the_files_the_bytes_the_share_and_the_name():
    terminal, clock = Terminal(), Clock()
    line = ProgressLine(terminal, clock=clock)
    line.start(2310)
    line("first", 1024, 314_782_515)
    clock.now += 1
    line("__pypackages__/numpy/core.py", 47_290_778, 314_782_515)
    assert terminal.drawn() == [
        "packing  0 of 2,310 files  0.0 of 300.2 MiB  0 %  first",
        "packing  1 of 2,310 files  45.1 of 300.2 MiB  15 %  __pypackages__/numpy/core.py",
    ]


def test_without_a_number_of_files_it_counts_those_that_are_done():
    terminal = Terminal()
    ProgressLine(terminal)("main.py", 10, 100)
    assert terminal.drawn() == ["packing  0 files  10 of 100 B  10 %  main.py"]


def test_a_file_of_many_blocks_counts_once_and_a_new_start_counts_from_nothing():
    terminal, clock = Terminal(), Clock()
    line = ProgressLine(terminal, clock=clock)
    line.start(3)
    for name in ("a", "a", "a", "b", "b"):
        line(name, 1, 10)
    clock.now += 1
    line("c", 2, 10)
    line.start(5)
    clock.now += 1
    line("c", 3, 10)
    assert terminal.drawn()[1:] == [
        "packing  2 of 3 files  2 of 10 B  20 %  c",
        "packing  0 of 5 files  3 of 10 B  30 %  c",
    ]


@pytest.mark.parametrize(
    ("read", "total", "said"),
    [
        (0, 0, "0 of 0 B  100 %"),
        (1023, 1023, "1,023 of 1,023 B  100 %"),
        (512, 1024, "0.5 of 1.0 KiB  50 %"),
        (1024**3, 3 * 1024**3, "1.0 of 3.0 GiB  33 %"),
        (0, 5000 * 1024**4, "0.0 of 5,000.0 TiB  0 %"),
        (2048, 1024, "2.0 of 1.0 KiB  100 %"),
    ],
    ids=["nothing", "bytes", "KiB", "GiB", "no unit is larger", "a file that grew"],
)
def test_bytes_are_told_in_the_unit_of_all_of_them(read, total, said):
    terminal = Terminal()
    ProgressLine(terminal)("f", read, total)
    assert terminal.drawn() == [f"packing  0 files  {said}  f"]


def test_it_is_redrawn_ten_times_a_second_at_most():
    terminal, clock = Terminal(), Clock()
    line = ProgressLine(terminal, clock=clock)
    for at in range(1000):
        clock.now = 100 + at / 1000
        line("main.py", at, 1000)
    assert 9 <= len(terminal.drawn()) <= 11


def test_a_phase_is_shown_at_once():
    terminal = Terminal()
    line = ProgressLine(terminal, clock=Clock())
    line.phase("resolving dependencies with uv …")
    line.phase("describing the Sequence …")
    assert terminal.drawn() == ["resolving dependencies with uv …", "describing the Sequence …"]


def test_nothing_is_left_on_the_line_at_the_end():
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line.phase("packing")
    assert terminal.drawn() == ["packing", ""]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_left_on_the_line_at_an_error(error):
    terminal = Terminal()

    def work() -> None:
        with ProgressLine(terminal) as line:
            line.phase("packing")
            raise error

    with pytest.raises(error):
        work()
    assert terminal.drawn() == ["packing", ""]


def test_an_interrupt_while_it_is_drawn_leaves_nothing_either():
    class Interrupted(Terminal):
        def flush(self) -> None:
            if self.getvalue() == ERASE + "packing":
                raise KeyboardInterrupt

    terminal = Interrupted()
    with pytest.raises(KeyboardInterrupt), ProgressLine(terminal) as line:
        line.phase("packing")
    assert terminal.drawn() == ["packing", ""]


def test_a_closed_line_shows_nothing_any_more_and_can_be_closed_again():
    terminal = Terminal()
    line = ProgressLine(terminal, clock=Clock())
    line.phase("packing")
    line.close()
    line.close()
    line.phase("packing")
    line("main.py", 1, 2)
    assert terminal.getvalue() == ERASE + "packing" + ERASE


def test_a_line_that_showed_nothing_erases_nothing():
    terminal = Terminal()
    ProgressLine(terminal).close()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    "error", [OSError(5, "gone"), ValueError("closed")], ids=["the terminal is gone", "the stream is closed"]
)
@pytest.mark.parametrize("after", [0, 1])
def test_a_terminal_that_fails_does_not_fail_the_packing(after, error):
    terminal = Gone(after, error)
    with ProgressLine(terminal) as line:
        line.phase("one")
        line.phase("two")
        line("main.py", 1, 2)
    assert terminal.drawn() == ["one"][:after]


def test_a_failing_terminal_is_no_error_at_the_end_either():
    terminal = Gone(1, OSError(5, "gone"))
    with ProgressLine(terminal) as line:
        line.phase("one")
    assert terminal.drawn() == ["one"]


def test_what_does_not_fit_ends_with_an_ellipsis(monkeypatch):
    monkeypatch.setenv("COLUMNS", "11")
    terminal = Terminal()
    line = ProgressLine(terminal)
    for text in ("0123456789", "01234567890", "名前名前名", "名前名前名前", "012345678名"):
        line.phase(text)
    assert terminal.drawn() == ["0123456789", "012345678…", "名前名前名", "名前名前…", "012345678…"]


def test_a_terminal_that_knows_few_letters_gets_only_those(monkeypatch):
    monkeypatch.setenv("COLUMNS", "11")
    terminal = Terminal("ascii")
    ProgressLine(terminal).phase("naïve-file-name")
    assert terminal.drawn() == ["na?ve-f..."]


def test_what_would_move_the_cursor_is_shown_as_a_question_mark():
    terminal = Terminal()
    ProgressLine(terminal)("a\nb\x1b[2J\u202ec\udc80", 1, 1)
    assert terminal.drawn() == ["packing  0 files  1 of 1 B  100 %  a?b?[2J?c?"]


@given(
    st.integers(1, 60),
    st.sampled_from(["utf-8", "ascii", "latin-1"]),
    st.lists(
        st.text(st.characters() | st.sampled_from("名🎉e\u0301\u200d\x1b\r\n"), max_size=80), max_size=4
    ),
)
def test_no_line_is_wider_than_the_terminal_and_nothing_of_it_stays(columns, encoding, names):
    terminal, clock = Terminal(encoding), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        with ProgressLine(terminal, clock=clock) as line:
            for name in names:
                line.phase(name)
                clock.now += 1
                line(name, 1, 2)
    drawn = terminal.drawn()
    assert len(drawn) == (2 * len(names) + 1 if names else 0)
    assert all(cells(shown) < columns for shown in drawn)
    assert all(shown.isprintable() for shown in drawn)
    assert not drawn or drawn[-1] == ""
    assert terminal.getvalue().encode(encoding).decode(encoding) == terminal.getvalue()


@pytest.fixture
def pty():
    """A terminal of the system: what it shows, the stream to it, and a way to change its width."""
    shows, end = os.openpty()
    os.set_blocking(shows, False)

    def resize(columns: int) -> None:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    with open(end, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        yield shows, stream, resize
    os.close(shows)


def test_the_width_is_that_of_the_very_terminal_also_after_a_change(pty):
    shows, stream, resize = pty
    line = ProgressLine(stream)
    resize(20)
    line.phase("0123456789" * 3)
    assert os.read(shows, 4096).decode() == ERASE + "012345678901234567…"
    resize(10)
    line.phase("0123456789" * 3)
    assert os.read(shows, 4096).decode() == ERASE + "01234567…"
    line.close()
    assert os.read(shows, 4096).decode() == ERASE


def test_a_terminal_that_does_not_know_its_width_has_that_of_the_environment(pty, monkeypatch):
    shows, stream, resize = pty
    resize(0)
    monkeypatch.setenv("COLUMNS", "5")
    ProgressLine(stream).phase("0123456789")
    assert os.read(shows, 4096).decode() == ERASE + "012…"


def test_standard_error_that_is_a_terminal_gets_a_line(pty, monkeypatch):
    shows, stream, _ = pty
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_line(quiet=False) as line:
        line.phase("packing")
        assert os.read(shows, 4096).decode() == ERASE + "packing"
    assert os.read(shows, 4096).decode() == ERASE


@pytest.mark.parametrize("case", ["quiet", "dumb", "no TERM", "no terminal", "no stderr"])
def test_nothing_is_shown_to_those_who_do_not_want_it_or_cannot_redraw(case, monkeypatch):
    stream = Terminal() if case != "no terminal" else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream if case != "no stderr" else None)
    if case == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if case == "no TERM":
        monkeypatch.delenv("TERM")
    with progress_line(quiet=case == "quiet") as line:
        line.phase("resolving")
        line.start(1)
        line("main.py", 1, 2)
    assert stream.getvalue() == ""
