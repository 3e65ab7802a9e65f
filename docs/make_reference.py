"""Writes docs/reference.md from the docstrings of sequence_sdk: ``python docs/make_reference.py``.

What is public is said by ``__all__``; of a class, what has no underscore in front and stands above a comment
``# --- the … side ---``, below which methods are for the runner. Signatures are those of the source, as they are written there.
"""
# ruff: noqa: INP001 - a program beside the page it makes, in no package

import ast
import enum
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

PAGE: Final = Path(__file__).with_name("reference.md")
MODULES: Final = {
    "sequence_sdk": "What a Sequence imports.",
    "sequence_sdk.state": "What is behind `context.state`.",
    "sequence_sdk.metrics": "What is behind `context.metrics`.",
    "sequence_sdk.topic": "What `context.topic(name)` returns.",
    "sequence_sdk.testing": "What its tests import; [Testing](testing.md) shows how.",
    "sequence_sdk.hub": "The hub's API as calls, `context.hub`; [HTTP API](http-api.md) says what each answers.",
}
_INTRODUCTION: Final = """\
All that is public, made from the docstrings by `python docs/make_reference.py`. The [author guide](author-guide.md) tells what it
is for."""
_WIDTH: Final = 100  # characters of a signature; what is longer has a parameter a line
_OTHER_SIDE: Final = re.compile(rb"    # --- the .* side -*$")
_LISTS: Final = ("Args", "Attributes", "Raises")
_SECTION: Final = re.compile(
    r"^(Args|Attributes|Raises|Returns|Yields|Shape|Source|Example|Examples):(?= |$)"
)

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Entry:
    """A public name: its heading, its signatures, and its docstrings."""

    name: str  # as it is looked up: ``Stream.map``
    signatures: tuple[str, ...]
    texts: tuple[str, ...]
    level: int = 3


def public_names(module: ModuleType) -> list[str]:
    """Return what a module offers, functions and classes first, errors last, each in the order of the alphabet."""

    def order(name: str) -> tuple[bool, str]:
        value = getattr(module, name)
        return inspect.isclass(value) and issubclass(value, BaseException), name.lower()

    def is_for_authors(name: str) -> bool:
        value = getattr(module, name)
        is_made = inspect.isfunction(value) or (
            inspect.isclass(value) and not getattr(value, "_is_protocol", False)
        )
        return is_made and not name.startswith("_") and value.__module__ == module.__name__

    return sorted(getattr(module, "__all__", None) or filter(is_for_authors, vars(module)), key=order)


def entries(module: ModuleType) -> Iterator[Entry]:
    """Yield the public names of a module, each class followed by its members."""
    for name in public_names(module):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield _class(name, value)
            yield from _members(name, value)
        elif inspect.isfunction(value):
            yield Entry(name, _signatures(value, name), (text(value),))
        elif _is_ours(type(value)) and callable(value):
            call = inspect.getattr_static(type(value), "__call__")
            yield Entry(name, _signatures(call, name), (text(type(value)), text(call)))
            for member in _members(
                name, type(value)
            ):  # of `sequence.chain` the anchor would be that of `SequenceChain`
                yield replace(member, name=member.name.replace(".", ": "))
        else:
            yield Entry(name, (_assignment(module, name),), (_assigned_text(module, name),))


def text(thing: Any) -> str:
    """Return the docstring of a thing itself, not one that it inherits."""
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    return inspect.cleandoc(own or "")


# --- from the source -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The source of a module, and what its names mean."""

    module: ModuleType
    lines: list[bytes]
    tree: ast.Module
    functions: dict[int, Definition]  # by the line where each begins, with its decorators

    def words(self, node: ast.expr | ast.stmt) -> str:
        """Return the source of an expression on one line; a private constant as its value."""
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            value = getattr(self.module, node.id)
            return repr(value) if isinstance(value, int | float | str | bytes | None) else "..."
        first, last = node.lineno - 1, node.end_lineno
        segment = self.lines[first:last]  # bytes, as offsets are in them
        segment[-1] = segment[-1][: node.end_col_offset]
        segment[0] = segment[0][node.col_offset :]
        line = " ".join(b"".join(segment).decode("utf-8").split())
        return re.sub(r"([(\[{]) | (?=[)\]}])|,(?= ?[)\]}])", r"\1", line)

    def hint(self, node: ast.expr) -> str:
        """Return a hint as it would be written if every name were known already."""
        words = self.words(node)
        return words.strip("\"'") if isinstance(node, ast.Constant) and isinstance(node.value, str) else words

    def parameter(self, argument: ast.arg, default: ast.expr | None = None) -> str:
        """Return a parameter with its hint and its default."""
        hint = f": {self.hint(argument.annotation)}" if argument.annotation is not None else ""
        if default is None:
            return argument.arg + hint
        return (
            f"{argument.arg}{hint} = {self.words(default)}"
            if hint
            else f"{argument.arg}={self.words(default)}"
        )


@cache
def _source(name: str) -> Source:
    module = importlib.import_module(name)
    content = Path(module.__file__ or "").read_bytes()
    tree = ast.parse(content)
    functions = [node for node in ast.walk(tree) if isinstance(node, Definition)]
    beginnings = {
        min([node.lineno, *(each.lineno for each in node.decorator_list)]): node for node in functions
    }
    return Source(module, content.splitlines(keepends=True), tree, beginnings)


def _is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "sequence_sdk"


def _class_node(value: type) -> tuple[Source, ast.ClassDef]:
    source = _source(value.__module__)
    body: list[ast.stmt] = source.tree.body
    for part in value.__qualname__.split("."):
        nodes = ast.walk(ast.Module(body, []))
        found = next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == part)
        body = found.body
    return source, found


def _function_node(function: Any) -> tuple[Source, Definition]:
    function = inspect.unwrap(function)
    source = _source(function.__module__)
    return source, source.functions[function.__code__.co_firstlineno]


def _signatures(function: Any, name: str, *, bound: bool | None = None) -> tuple[str, ...]:
    """Return how a function is called: its overloads, or itself."""
    is_bound = "." in function.__qualname__ if bound is None else bound
    forms = typing.get_overloads(function) or [function]
    return tuple(_signature(*_function_node(form), name, is_bound) for form in forms)


def _signature(source: Source, node: Definition, name: str, is_bound: bool) -> str:
    given = node.args
    parameters: list[str] = []
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True), 1):
        parameters.append(source.parameter(argument, default))
        if number == len(given.posonlyargs):
            parameters.append("/")
    if is_bound:
        del parameters[: 2 if parameters[1:2] == ["/"] else 1]
    if given.vararg is not None:
        parameters.append("*" + source.parameter(given.vararg))
    elif given.kwonlyargs:
        parameters.append("*")
    parameters += map(source.parameter, given.kwonlyargs, given.kw_defaults)
    if given.kwarg is not None:
        parameters.append("**" + source.parameter(given.kwarg))
    returns = f" -> {source.hint(node.returns)}" if node.returns is not None else ""
    return _wrapped(("async " if isinstance(node, ast.AsyncFunctionDef) else "") + name, parameters, returns)


def _wrapped(name: str, parameters: list[str], returns: str) -> str:
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= _WIDTH or not parameters:
        return line
    return "\n".join([f"{name}(", *(f"    {each}," for each in parameters), f"){returns}"])


# --- classes ---------------------------------------------------------------------------------------------------------


def _class(name: str, value: type) -> Entry:
    source, node = _class_node(value)
    bases = [words for base in node.bases if not (words := source.words(base)).startswith("Generic[")]
    head = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    made = inspect.getattr_static(value, "__init__")
    own = (text(made),) if "__init__" in vars(value) and not is_dataclass(value) else ()
    return Entry(name, (head, *_constructor(name, value)), (text(value), *own, _facts(value)))


def _constructor(name: str, value: type) -> tuple[str, ...]:
    """Return how an author makes one, or the members of an enumeration; errors are made by us, protocols by nobody."""
    if issubclass(value, enum.Enum):
        source, node = _class_node(value)
        return tuple(f"{name}.{source.words(each)}" for each in node.body if isinstance(each, ast.Assign))
    if issubclass(value, BaseException) or getattr(value, "_is_protocol", False):
        return ()
    if is_dataclass(value):
        source, node = _class_node(value)
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        return (_wrapped(name, [source.words(each) for each in fields], ""),)
    if "__init__" in vars(value):
        made = inspect.getattr_static(value, "__init__")
        return tuple(each.removesuffix(" -> None") for each in _signatures(made, name))
    return ()


def _facts(value: type) -> str:
    """Return what an error carries: the attributes that it gets when it is made."""
    if not issubclass(value, BaseException) or "__init__" not in vars(value):
        return ""
    _, node = _class_node(value)
    names = [
        target.attr
        for statement in ast.walk(node)
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Attribute) and not target.attr.startswith("_")
    ]
    return "Carries " + ", ".join(f"``{each}``" for each in names) + "." if names else ""


def _members(name: str, value: type) -> Iterator[Entry]:
    """Yield the public members of a class, in the order of its source, its own private bases' after them."""
    if issubclass(value, BaseException):
        return
    for one in value.__mro__:
        if one is not value and (not _is_ours(one) or not one.__name__.startswith("_")):
            continue
        source, node = _class_node(one)
        numbers = range(node.lineno, node.end_lineno or 0)
        last = next(
            (number for number in numbers if _OTHER_SIDE.match(source.lines[number])), len(source.lines)
        )
        members = {
            member.name: member
            for member in node.body
            if isinstance(member, Definition) and not member.name.startswith("_") and member.lineno <= last
        }
        for each, member in members.items():
            yield _member(f"{name}.{each}", inspect.getattr_static(one, each), member, source)


def _member(name: str, member: Any, node: Definition, source: Source) -> Entry:
    if not inspect.isfunction(member) and not isinstance(member, classmethod | staticmethod):
        hint = f": {source.hint(node.returns)}" if node.returns is not None else ""
        return Entry(name, (name + hint,), (text(member),), 4)
    function = member if inspect.isfunction(member) else member.__func__
    is_bound = not isinstance(member, staticmethod)
    return Entry(name, _signatures(function, name, bound=is_bound), (text(function),), 4)


# --- values ----------------------------------------------------------------------------------------------------------


def _assigned(module: ModuleType, name: str) -> tuple[Source, list[ast.stmt]]:
    """Return the source of the module that gives a name its value, and the statement with those after it."""
    source = _source(module.__name__)
    for number, node in enumerate(source.tree.body):
        if isinstance(node, ast.ImportFrom) and any(
            (each.asname or each.name) == name for each in node.names
        ):
            home = importlib.import_module("." * node.level + (node.module or ""), module.__package__)
            return _assigned(home, name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return source, source.tree.body[number:]
    raise LookupError(f"{module.__name__}.{name} gets its value nowhere")


def _assignment(module: ModuleType, name: str) -> str:
    source, (node, *_) = _assigned(module, name)
    return source.words(node)


def _assigned_text(module: ModuleType, name: str) -> str:
    _, (_, *after) = _assigned(module, name)
    if after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant):
        return inspect.cleandoc(str(after[0].value.value))
    return ""


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown: its sections as lists, everything else as it is."""
    parts: list[str] = []
    block: list[str] = []
    title = ""
    for line in [*docstring.splitlines(), "Source:"]:
        found = _SECTION.match(line)
        ends = title in _LISTS and line[:1].strip() and any(block)  # a paragraph after a list
        if found is None and not ends:
            block.append(line)
            continue
        parts.append(_section(title, block))
        title, block = (found[1], [line[found.end() :].strip()]) if found else ("", [line])
    return "\n\n".join(filter(None, parts))


def _section(title: str, lines: list[str]) -> str:
    whole = inspect.cleandoc("\n".join(lines)).strip()
    if not title:
        return _escaped(whole)
    if title in _LISTS:
        items = re.split(r"\n(?=\S)", whole)
        whole = "\n".join(_item(" ".join(each.split())) for each in items)
        return f"{title.replace('Args', 'Arguments')}:\n\n{whole}"
    return f"{title}: {_escaped(whole)}"


def _item(words: str) -> str:
    name, colon, meaning = words.partition(": ")
    return f"- `{name}`: {_escaped(meaning)}" if colon else f"- {_escaped(words)}"


def _escaped(words: str) -> str:
    """Return text whose stars and angle brackets are no Markdown, outside of code."""
    pieces = re.split(r"(``.+?``|`[^`\n]+`)", words, flags=re.DOTALL)
    return "".join(
        piece if number % 2 else re.sub(r"([*<])", r"\\\1", piece) for number, piece in enumerate(pieces)
    )


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page() -> str:
    """Return the whole reference."""
    parts = ["# Reference", _INTRODUCTION]
    for path, purpose in MODULES.items():
        module = importlib.import_module(path)
        found = list(entries(module))
        top = [entry for entry in found if entry.level == 3]
        parts += [f"## {path}", purpose, " · ".join(f"[{entry.name}](#{slug(entry.name)})" for entry in top)]
        for entry in found:
            signatures = "\n".join(entry.signatures)
            parts += [
                f"{'#' * entry.level} {entry.name}",
                f"```py\n{signatures}\n```",
                *map(markdown, entry.texts),
            ]
    return "\n\n".join(filter(None, parts)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
