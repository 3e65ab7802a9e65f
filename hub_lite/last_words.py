"""What a runner's last words and its exit code mean, whatever runner it was."""

import re
import shlex

from runner.protocol.exit_codes import ExitCode

_MAX_LENGTH = 500  # characters of a line in a reason
_NODE_FAREWELL = re.compile(r"Node\.js v\d")  # the line after the report of an uncaught error
_AFTERTHOUGHT = re.compile(r"(?:item(?: \d+)?|hint): ")
_NODE_ERROR = re.compile(r"\w*(?:Error|Exception)\b")  # at the start of a line: what was thrown


def last_line(text: bytes) -> str:
    """Return the line that says best why a process has ended: the last one, or of Node's report the error itself.

    What our runner says of the item in hand, and its hint, stand behind the error.
    """
    lines = [line.rstrip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    while len(lines) > 1 and _AFTERTHOUGHT.match(lines[-1]):
        lines.pop()
    if len(lines) > 1 and _NODE_FAREWELL.match(lines[-1]):
        lines.pop()
        lines = [next((line for line in lines if _NODE_ERROR.match(line)), lines[-1])]
    return lines[-1].strip()[:_MAX_LENGTH] if lines else ""


def code_of_old_runner(code: int, *, up: bool, completed: bool) -> int:
    """Return today's exit code for that of a runner of the 0.18 dialect, which counted its failures otherwise.

    Args:
        code: what the process ended with.
        up: the Sequence was loaded; before that, 21 says that it could not be.
        completed: the runner had said that the Sequence is over; 20 then says that it failed. Alone it is the author's.

    Source: docs/protocol.md, "Dialects".
    """
    if code == ExitCode.INVALID_SEQUENCE_PATH and not up:
        return ExitCode.SEQUENCE_FAILED_ON_START
    if code == ExitCode.INVALID_ENV_VARS and completed:
        return ExitCode.SEQUENCE_FAILED_DURING_EXECUTION
    return code


def detail_that_was_lost(code: int, main: str) -> str:
    """Return what to say of a Node Sequence that its runner says nothing of, if that is so for this exit code; else "".

    A runner of the 0.18 dialect closes its links before the log has what was thrown while the Sequence was loaded.
    """
    if code != ExitCode.SEQUENCE_FAILED_ON_START:
        return ""
    return f"its runner does not say why, but `node {shlex.quote(main)}` does where the package was made"
