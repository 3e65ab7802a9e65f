"""JSON texts that are kept never say anything else than texts that are made anew."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.descriptions import KeptText, encode_json
from hub_lite.hub import Hub
from hub_lite.instances import Instance, StartPayload
from hub_lite.settings import Settings
from runner.protocol.lifecycle import EndedBadly, Launched, StopRequested, Up
from runner.protocol.messages import Monitoring, Pang, Ping

from .fakes import FakeAdapter, FakeStore, stored_sequence

ONE = "1" * 36


@pytest.mark.parametrize("value", [2**70, "\ud800", {"a": [1.5, None, True]}, "ü"])
def test_what_a_runner_may_report_is_json(value: Any) -> None:
    assert json.loads(encode_json({"value": value})) == {"value": value}


def test_a_text_is_there_for_the_facts_it_was_made_of_and_for_no_others() -> None:
    text, first, second = KeptText(), ("a", {"n": 1}), ("a", {"n": 1})
    assert text.get(first) is None
    assert text.put(first, b"first") == b"first"
    assert text.get(first) == b"first"
    assert text.get((*first,)) == b"first"
    assert text.get(second) is None  # it is equal, and another object
    assert text.get(first[:1]) is None


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0.0, -0.0), ("a", ["a"])])
def test_facts_that_are_equal_but_not_the_same_make_another_text(before: Any, after: Any) -> None:
    text = KeptText()
    text.put(({"n": before},), b"before")
    assert text.get(({"n": after},)) is None


# Whatever happens to an Instance, in whatever order


def number() -> st.SearchStrategy[Any]:
    return st.one_of(st.integers(-2, 2), st.just(2**70), st.just(1.0), st.booleans(), st.just("no number"))


STEPS = st.one_of(
    st.tuples(
        st.just("report"),
        st.fixed_dictionaries({"healthy": st.booleans()}, optional={"metrics": st.dictionaries(st.just("n"), number())}),
    ),
    st.tuples(st.just("ping"), st.dictionaries(st.sampled_from(["80/tcp", "81/udp"]), number())),
    st.tuples(st.just("pang"), st.tuples(st.sampled_from(["", "one"]), st.sampled_from(["", "two"]))),
    st.tuples(st.just("greet"), st.floats(0, 2e9)),
    st.tuples(st.just("state"), st.sampled_from([Launched(), Up(), StopRequested(), EndedBadly()])),
    st.tuples(st.just("replace"), st.integers(1, 3)),
    st.tuples(st.just("reload"), st.none()),
    st.tuples(st.just("quarantine"), st.integers(0, 600)),
    st.tuples(st.just("finish"), st.integers(0, 255)),
    st.tuples(st.just("look"), st.none()),
)  # fmt: skip


class Counts:
    """Says how much an Instance has put aside."""

    def __init__(self) -> None:
        self.number = 0

    def count(self, instance_id: str) -> int:
        return self.number


async def happens(hub: Hub, instance: Instance, counts: Counts, what: str, value: Any) -> None:
    match what:
        case "report":
            instance._take(Monitoring(value))
        case "ping":
            instance._take(Ping(payload={}, ports=value))
        case "pang":
            instance._take(Pang(provides=value[0], requires=value[1]))
        case "greet":
            instance.started = value
        case "state":
            instance._handle(value)
        case "replace":
            hub._sequences[ONE] = stored_sequence(ONE, main=f"main{value}.py")
        case "reload":
            instance.sequence = hub.sequence(ONE)
        case "quarantine":
            counts.number = value
        case "finish" if instance.terminated is None:
            instance._finish(value, "over", failed=bool(value))
        case _:
            pass


@given(steps=st.lists(STEPS, max_size=12))
async def test_after_any_history_the_kept_description_is_the_one_made_anew(
    steps: list[tuple[str, Any]],
) -> None:
    settings, counts = Settings(), Counts()
    hub = Hub(settings, FakeStore(), FakeAdapter())
    hub._quarantines = counts  # type: ignore[assignment]
    hub._sequences[ONE] = stored_sequence(ONE)
    instance = Instance(ONE, hub.sequence(ONE), StartPayload(), settings)
    hub._instances[instance.id] = instance
    try:
        for what, value in steps:
            await happens(hub, instance, counts, what, value)
            hub._configs, kept = {}, hub._configs
            fresh = encode_json(hub.describe_instance(instance))
            fresh_sequences = hub.describe_sequences()
            hub._configs = kept
            assert hub.instance_text(instance) == fresh
            assert hub.instances_text() == b"[" + fresh + b"]"
            assert hub.describe_sequences() == fresh_sequences == [hub.describe_sequence(hub.sequence(ONE))]
    finally:
        hub._records.shutdown()
        instance.close()


async def test_the_config_of_a_sequence_is_forgotten_with_it() -> None:
    hub = Hub(Settings(), FakeStore(stored_sequence(ONE)), FakeAdapter())
    hub._sequences[ONE] = gone = stored_sequence(ONE)
    assert hub.describe_sequence(gone)["config"]["id"] == ONE
    await hub.delete_sequence(ONE, force=False)
    hub.describe_sequence(gone)
    assert not hub._configs
    hub._records.shutdown()


def test_no_instances_are_an_empty_list() -> None:
    hub = Hub(Settings(), FakeStore(), FakeAdapter())
    assert hub.instances_text() == b"[]"
    hub._records.shutdown()
