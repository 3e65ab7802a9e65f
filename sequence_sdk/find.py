"""Which member of an author's module is the Sequence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .spec import ATTRIBUTE, CLASSIC, SequenceSpec, spec_of


@dataclass(frozen=True, slots=True)
class Found:
    """The Sequence of a module, and the name it has there."""

    name: str
    thing: Any
    spec: SequenceSpec


@dataclass(frozen=True, slots=True)
class NoneFound:
    """A module without a Sequence; ``functions`` are what of its own could be called."""

    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeveralFound:
    """A module with more than one Sequence, none of which is called ``run``."""

    names: tuple[str, ...]


def find_sequence(members: Mapping[str, Any], module: str) -> Found | NoneFound | SeveralFound:
    """Return which of a module's members is its Sequence.

    That is what ``@sequence`` marked: a function, a class or a chain. Those of the module itself win over imported ones, a
    chain over its parts, and ``run`` over others. Without any it is the classic ``run(context, input, *args)``.

    Args:
        members: ``vars()`` of the module.
        module: the name of the module, as its functions know it.
    """
    callables = {name: value for name, value in members.items() if callable(value)}
    marked = [Found(name, value, spec) for name, value in callables.items() if (spec := _mark(value))]
    marked = [found for found in marked if _is_own(found.thing, module) or _is_chain(found)] or marked
    parts = {id(part) for found in marked for part in _parts(found.spec)}
    marked = [found for found in marked if id(found.thing) not in parts]
    for found in marked:
        if found.name == "run":
            return found
    if marked:
        several = len({id(found.thing) for found in marked}) > 1
        return SeveralFound(tuple(sorted(found.name for found in marked))) if several else marked[0]
    if "run" in callables:
        return Found("run", callables["run"], CLASSIC)
    return NoneFound(tuple(name for name, value in callables.items() if _is_own(value, module)))


def _mark(value: Any) -> SequenceSpec | None:
    """Return the mark that is the value's own: a class that extends a marked one is not marked by that."""
    if isinstance(value, type) and ATTRIBUTE not in vars(value):
        return None
    return spec_of(value)


def _is_own(value: object, module: str) -> bool:
    try:
        return bool(getattr(value, "__module__", None) == module)
    except Exception:  # noqa: BLE001 - a lazy proxy in a module may raise anything
        return False


def _is_chain(found: Found) -> bool:
    """Tell whether it is a chain: where that was made it does not say, but who names one means to run it."""
    return bool(found.spec.parts)


def _parts(spec: SequenceSpec) -> Iterator[Any]:
    for part in spec.parts:
        yield part
        inner = spec_of(part)
        if inner is not None:
            yield from _parts(inner)
