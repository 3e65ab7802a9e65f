"""The values an Instance keeps at its hub: what each call asks, and what it makes of the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.hub import HubRefused
from sequence_sdk.state import MemoryStore, State

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


class Refusing:
    """A hub that refuses whatever it is asked, and keeps what it was asked."""

    def __init__(self, status):
        self.status = status
        self.asked = []

    async def refuse(self, *what):
        self.asked.append(what)
        raise HubRefused(self.status, "no")

    state = get_state = set_state = delete_state = refuse


@pytest.fixture
def state():
    store = MemoryStore()
    return State(lambda: store, "me")


async def test_a_value_is_there_until_it_is_deleted(state):
    assert await state.get("a") is None
    assert await state.get("a", 7) == 7
    await state.set("a", {"b": [1, None]})
    assert await state.get("a", 7) == {"b": [1, None]}
    await state.set("a", 0)
    assert await state.get("a", 7) == 0
    await state.delete("a")
    assert await state.get("a", 7) == 7
    await state.delete("a")


async def test_falsy_values_are_values(state):
    for value in (None, False, 0, "", [], {}):
        await state.set("a", value)
        assert await state.get("a", "default") == value
    assert await state.all() == {"a": {}}


async def test_all_values_and_keys_are_there_and_an_update_leaves_others_as_they_are(state):
    assert (await state.all(), await state.keys()) == ({}, [])
    await state.update({"a": 1, "b": 2})
    await state.update({"b": 3, "": 4})
    assert await state.all() == {"a": 1, "b": 3, "": 4}
    assert await state.keys() == ["a", "b", ""]


@given(st.dictionaries(st.text(), JSON, max_size=4))
async def test_what_is_kept_is_read_and_is_a_copy(values):
    store = MemoryStore()
    state = State(lambda: store, "me")
    await state.update(values)
    assert await state.all() == values
    for value in (await state.all()).values():
        if isinstance(value, list):
            value.append("changed")
    assert await state.all() == values


async def test_instances_do_not_see_each_other():
    store = MemoryStore()
    mine, theirs = State(lambda: store, "me"), State(lambda: store, "they")
    await mine.set("a", 1)
    await theirs.set("a", 2)
    assert await mine.all() == {"a": 1}
    await store.delete_state("me")
    await store.delete_state("me")
    assert (await mine.all(), await theirs.all()) == ({}, {"a": 2})


CIRCLE: list = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "Object of type object is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        (float("nan"), "Out of range float values are not JSON compliant"),
        (CIRCLE, "Circular reference detected"),
    ],
    ids=["object", "set", "nan", "circle"],
)
async def test_what_is_not_json_is_told_with_its_key_and_nothing_is_kept(state, value, problem):
    with pytest.raises(TypeError, match=rf"context.state: the value of 'k' is not JSON: {problem}"):
        await state.set("k", value)
    with pytest.raises(TypeError, match="the value of 'k' is not JSON"):
        await state.update({"good": 1, "k": value})
    assert await state.all() == {}


async def test_the_store_is_asked_for_this_instance_and_looked_up_each_time():
    store, looks = Refusing(404), []
    state = State(lambda: looks.append("look") or store, "me")
    assert await state.get("k", "default") == "default"
    await state.delete("k")
    assert store.asked == [("me", "k"), ("me", "k")]
    assert looks == ["look", "look"]


@pytest.mark.parametrize(
    "call",
    [
        lambda state: state.get("k", 1),
        lambda state: state.delete("k"),
        lambda state: state.set("k", 1),
        lambda state: state.all(),
        lambda state: state.keys(),
        lambda state: state.update({"k": 1}),
    ],
    ids=["get", "delete", "set", "all", "keys", "update"],
)
async def test_a_hub_that_refuses_is_heard(call):
    with pytest.raises(HubRefused, match="no"):
        await call(State(lambda: Refusing(507), "me"))
