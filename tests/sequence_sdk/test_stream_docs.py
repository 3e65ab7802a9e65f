"""The examples of docs/streams.md give what they say, and every method is among them."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from sequence_sdk.stream import Stream

PAGE = Path(__file__).resolve().parents[2] / "docs" / "streams.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
IMPORTS = "import io\nfrom sequence_sdk.stream import Stream\n"


async def run(statement, scope):
    """Run a statement as ``python -m asyncio`` does, and return its value, if it has one."""
    is_value = isinstance(statement, ast.Expr)
    tree = ast.Expression(statement.value) if is_value else ast.Module([statement], [])
    code = compile(tree, PAGE.name, "eval" if is_value else "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(code, scope)
    return await value if code.co_flags & inspect.CO_COROUTINE else value


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_an_example_gives_what_it_says(block):
    scope = {}
    exec(IMPORTS, scope)
    lines = block.splitlines()
    checked = 0
    for statement in ast.parse(block).body:
        value = await run(statement, scope)
        _, arrow, wanted = lines[statement.end_lineno - 1].partition("  # → ")
        if arrow:
            assert repr(value) == wanted
            checked += 1
    assert checked == block.count("# →") > 0


def test_every_method_is_shown():
    text = "".join(BLOCKS)
    seams = {"bind", "from_batches", "given", "current", "release", "take", "ready", "aclose", "unpipe"}
    methods = {name for name in vars(Stream) if not name.startswith("_")} - seams
    assert {name for name in methods if f".{name}(" not in text} == set()
    assert "unpipe(" in PAGE.read_text("utf-8")
