"""Which member of a module is its Sequence."""

import types

from sequence_sdk import sequence
from sequence_sdk.find import Found, NoneFound, SeveralFound, find_sequence
from sequence_sdk.spec import ATTRIBUTE, CLASSIC, SequenceSpec, spec_of


def function(name: str = "shout", module: str = "sequence"):
    def made(input): ...

    made.__name__ = made.__qualname__ = name
    made.__module__ = module
    return made


def marked(name: str = "shout", module: str = "sequence"):
    return sequence(function(name, module))


class Chain:
    """A chain as an author has it: it comes from the SDK, and can be called."""

    def __init__(self, *parts):
        setattr(self, ATTRIBUTE, SequenceSpec(None, None, wants_context=False, parts=parts))

    def __call__(self, input): ...


class Proxy:
    """An object that is made when it is used, which cannot be done yet."""

    def __call__(self): ...

    @property
    def __module__(self):
        raise RuntimeError("too early")


def name_found(**members: object) -> str:
    found = find_sequence(members, "sequence")
    assert isinstance(found, Found)
    assert found.thing is members[found.name]
    assert found.spec is (spec_of(found.thing) or CLASSIC)
    return found.name


def test_the_function_that_is_marked_is_the_sequence():
    assert name_found(shout=marked(), other=function(), limit=3, run=function("run")) == "shout"


def test_one_function_under_two_names_is_one():
    shout = marked()
    assert name_found(shout=shout, loud=shout) == "shout"


def test_run_wins_among_marked_ones():
    assert name_found(shout=marked(), run=marked("run")) == "run"


def test_those_of_the_module_win_over_imported_ones():
    assert name_found(shout=marked(), run=marked("run", "library")) == "shout"
    assert name_found(shout=marked(module="library")) == "shout"


def test_a_class_that_is_marked_is_the_sequence_and_one_that_extends_it_is_not():
    class Store:
        __module__ = "sequence"

    setattr(Store, ATTRIBUTE, SequenceSpec(None, None, wants_context=False))

    class Special(Store):
        __module__ = "sequence"

    assert name_found(Store=Store, Special=Special) == "Store"


def test_a_chain_is_the_sequence_and_its_parts_are_not():
    parse, store, run = marked(), marked(), marked()
    assert name_found(parse=parse, store=store, main=Chain(parse, store)) == "main"
    assert name_found(parse=parse, run=run, main=Chain(parse, run)) == "main"
    inner = Chain(parse, store)
    assert name_found(inner=inner, parse=parse, store=store, run=run, main=Chain(inner, run)) == "main"


def test_a_chain_of_imported_parts_is_the_sequence():
    parse, store = marked(module="library"), marked(module="library")
    assert name_found(parse=parse, store=store, main=Chain(parse, store)) == "main"


def test_a_part_of_a_chain_need_not_be_marked():
    upper = function()
    assert name_found(upper=upper, main=Chain(upper, str.strip)) == "main"


def test_several_marked_ones_are_told_by_name():
    assert find_sequence({"b": marked(), "a": marked()}, "sequence") == SeveralFound(("a", "b"))


def test_a_classic_run_is_the_sequence_when_nothing_is_marked():
    run = function("run", "library")
    assert find_sequence({"run": run, "other": function()}, "sequence") == Found("run", run, CLASSIC)


def test_a_module_without_a_sequence_tells_what_it_has_of_its_own():
    members = {
        "run": 5,
        "help": function(),
        "path": types,
        "join": function("join", "posixpath"),
        "late": Proxy(),
    }
    assert find_sequence(members, "sequence") == NoneFound(("help",))
