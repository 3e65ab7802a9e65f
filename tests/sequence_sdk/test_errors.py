"""The errors of the SDK: the tree that is drawn of them, what they say, and how much of an item they repeat."""

import copy
import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import errors
from sequence_sdk.errors import BadInput, BadOutput, InputUsedInLoop, SequenceError, UnsupportedContentType

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
}
DRAWN = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<meaning>\S.*))?$")


def tree() -> dict[str, str]:
    """Return the parent of each error as the docstring draws it."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if (drawn := DRAWN.match(line)) is None:
            continue
        depth = len(drawn["indent"])
        above = [one for one in above if one[0] < depth]
        parents[drawn["name"]] = above[-1][1] if above else ""
        above.append((depth, drawn["name"]))
    return parents


def below(error):
    """Return the errors of ours below one, each with its parent."""
    for child in error.__subclasses__():
        if child.__module__.startswith("sequence_sdk."):
            yield child.__name__, error.__name__, child.__module__
            yield from below(child)


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    drawn = {name: parent for name, parent in tree().items() if parent}
    ours = {name: parent for name, parent, _ in below(SequenceError)}
    here = {name for name, _, module in below(SequenceError) if module == errors.__name__}
    assert here <= set(drawn), "every error of the module is drawn"
    assert drawn == {name: ours.get(name) for name in drawn}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_has_a_sentence_of_its_own(name):
    said = vars(CLASSES[name]).get("__doc__") or ""
    assert said.splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnsupportedContentType("image/png"), "content type 'image/png' is not supported: use text/plain, "),
        (BadInput(7, "not JSON", "{oops"), "input line 7: not JSON: {oops"),
        (BadOutput(2, "it is no text", 5), "output item 2: it is no text: 5"),
        (InputUsedInLoop(), "write `async for item in input` in an `async def`"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "says",
)
def test_an_error_says_what_and_where_and_survives_a_copy_and_a_pickle(error, words):
    assert words in str(error)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)


class NoRepr:
    def __repr__(self):
        raise RuntimeError("never")


def nested(depth):
    item = []
    for _ in range(depth):
        item = [item]
    return item


@pytest.mark.parametrize("item", [NoRepr(), 10**5000, nested(10_000)], ids=["no repr", "digits", "deep"])
def test_an_item_that_cannot_be_shown_does_not_hide_the_error(item):
    assert str(BadOutput(1, "it is no text", item)).startswith("output item 1: it is no text: ")


@given(
    st.recursive(st.text() | st.binary() | st.integers(), lambda inner: st.lists(inner) | st.tuples(inner))
)
def test_of_any_item_a_line_of_bounded_length_is_shown(item):
    said = str(BadOutput(1, "no", item)).removeprefix("output item 1: no: ")
    assert 0 < len(said) <= 80
    assert "\n" not in said
