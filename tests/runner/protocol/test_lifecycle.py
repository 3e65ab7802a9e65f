"""The life of an Instance, both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol.exit_codes import ExitCode
from runner.protocol.lifecycle import (
    ENDED,
    HUB_LOST_GRACE,
    KILL_GRACE,
    KILL_HANDLERS_GRACE,
    LINGER,
    TRANSITIONS,
    CallKillHandlers,
    CallStopHandlers,
    DeadlinePassed,
    EndedBadly,
    EndedWell,
    ExitNow,
    ForceKill,
    HubLife,
    KeptAlive,
    KillRequested,
    Launched,
    LifeEvent,
    PeerLost,
    RefusedEventError,
    RunnerLife,
    Send,
    SequenceEnded,
    State,
    StopRequested,
    Up,
)
from runner.protocol.messages import Kill, Stop

EVENTS = st.sampled_from(
    [
        Launched(),
        Up(),
        StopRequested(2500),
        StopRequested(100, can_keep_alive=True),
        KeptAlive(),
        KillRequested(),
        SequenceEnded(),
        PeerLost(),
        DeadlinePassed(),
        EndedWell(),
        EndedBadly(),
    ]
)


def running(life: HubLife | RunnerLife) -> HubLife | RunnerLife:
    life.handle(Launched(), 0.0)
    life.handle(Up(), 0.0)
    return life


def hub() -> HubLife:
    life = running(HubLife())
    assert isinstance(life, HubLife)
    return life


def runner() -> RunnerLife:
    life = running(RunnerLife())
    assert isinstance(life, RunnerLife)
    return life


def test_a_stop_is_sent_and_has_a_deadline():
    life = hub()
    assert life.handle(StopRequested(2500, can_keep_alive=True), now=10.0) == [
        Send(Stop(2500, can_keep_alive=True))
    ]
    assert (life.state, life.deadline) == (State.STOPPING, 12.5)


def test_a_stop_that_is_not_obeyed_becomes_a_kill_and_then_force():
    life = hub()
    life.handle(StopRequested(1000), now=0.0)
    assert life.handle(DeadlinePassed(), now=1.0) == [Send(Kill())]
    assert life.deadline == 1.0 + KILL_GRACE
    assert life.handle(DeadlinePassed(), now=1.5) == [ForceKill()]
    assert (life.state, life.deadline) == (State.KILLING, None)


def test_keep_alive_takes_a_stop_back_where_the_stop_allows_it():
    life = hub()
    life.handle(StopRequested(1000, can_keep_alive=True), now=0.0)
    life.handle(KeptAlive(), now=0.5)
    assert (life.state, life.deadline) == (State.RUNNING, None)
    assert life.end(1, 2.0)[0] == 1, "the stop is forgotten: a later failure is a failure"


def test_keep_alive_does_nothing_where_the_stop_forbids_it():
    life = hub()
    life.handle(StopRequested(1000), now=0.0)
    assert life.handle(KeptAlive(), now=0.5) == []
    assert (life.state, life.deadline) == (State.STOPPING, 1.0)


def test_keep_alive_comes_too_late_for_a_kill():
    life = hub()
    life.handle(StopRequested(1000, can_keep_alive=True), now=0.0)
    life.handle(DeadlinePassed(), now=1.0)
    assert life.handle(KeptAlive(), now=1.1) == []
    assert life.handle(DeadlinePassed(), now=1.5) == [ForceKill()]


def test_a_second_kill_is_not_sent_and_does_not_move_the_deadline():
    life = hub()
    assert life.handle(KillRequested(), 5.0) == [Send(Kill())]
    assert life.handle(KillRequested(), 5.4) == []
    assert life.deadline == 5.0 + KILL_GRACE


def test_a_kill_before_the_process_is_there_needs_force():
    assert HubLife().handle(KillRequested(), 0.0) == [ForceKill()]


def test_a_stopped_sequence_has_a_moment_to_exit():
    life = hub()
    life.handle(StopRequested(60_000), 0.0)
    life.handle(SequenceEnded(), 3.0)
    assert life.deadline == 3.0 + LINGER


def test_a_sequence_that_says_it_is_over_and_stays_is_killed():
    life = hub()
    life.handle(SequenceEnded(exit_within=10.0), 1.0)
    assert (life.state, life.deadline) == (State.RUNNING, 11.0)
    assert life.handle(DeadlinePassed(), 11.0) == [Send(Kill())]


@pytest.mark.parametrize(
    ("before", "returncode", "state", "code", "reason"),
    [
        ([], 0, State.COMPLETED, 0, "Instance completed"),
        ([], 23, State.ERRORED, 23, "Sequence failed during execution: ValueError: no"),
        ([], 3, State.ERRORED, 3, "Runner failed: ValueError: no"),
        ([], 21, State.ERRORED, 21, "Sequence entrypoint path m.py is invalid."),
        ([], -11, State.ERRORED, 139, "Runner was ended by SIGSEGV: ValueError: no"),
        ([], -9, State.ERRORED, 137, "Runner was ended by SIGKILL: ValueError: no"),
        ([], 137, State.COMPLETED, 137, "Instance killed"),
        ([KillRequested()], -9, State.COMPLETED, 137, "Instance killed"),
        ([KillRequested()], 1, State.COMPLETED, 137, "Instance killed"),
        ([KillRequested()], 0, State.COMPLETED, 137, "Instance killed"),
        ([StopRequested()], 0, State.COMPLETED, 0, "Instance completed"),
        ([StopRequested()], 138, State.COMPLETED, 138, "Instance stopped"),
        ([StopRequested()], 1, State.COMPLETED, 138, "Instance stopped"),
        ([StopRequested(), DeadlinePassed()], -9, State.COMPLETED, 137, "Instance killed"),
        ([StopRequested(), KillRequested()], 138, State.COMPLETED, 138, "Instance stopped"),
    ],
)
def test_the_end_says_what_happened(
    before: list[LifeEvent], returncode: int, state: State, code: int, reason: str
):
    life = hub()
    for event in before:
        life.handle(event, 0.0)
    got_code, got_reason = life.end(returncode, 1.0, main="m.py", detail="ValueError: no")
    assert (life.state, got_code) == (state, code)
    assert got_reason.startswith(reason)


def test_a_runner_hands_the_author_the_stop_once():
    life = runner()
    assert life.handle(StopRequested(2500, can_keep_alive=True), 0.0) == [
        CallStopHandlers(2500, can_keep_alive=True)
    ]
    assert life.handle(StopRequested(100), 0.1) == []


@pytest.mark.parametrize(
    ("before", "code"),
    [([], ExitCode.KILLED), ([StopRequested()], ExitCode.STOPPED)],
    ids=["alone", "after a stop"],
)
def test_a_killed_runner_calls_kill_handlers_and_exits_with_a_code_that_knows_of_a_stop(
    before: list[LifeEvent], code: ExitCode
):
    life = runner()
    for event in before:
        life.handle(event, 0.0)
    assert life.handle(KillRequested(), 1.0) == [CallKillHandlers()]
    assert life.deadline == 1.0 + KILL_HANDLERS_GRACE
    assert life.handle(DeadlinePassed(), 1.1) == [ExitNow(code)]
    assert life.deadline is None


def test_kill_handlers_are_done_before_a_hub_uses_force():
    assert KILL_HANDLERS_GRACE < KILL_GRACE


@pytest.mark.parametrize(
    "event", [KillRequested(), PeerLost(), KeptAlive()], ids=lambda one: type(one).__name__
)
def test_nothing_stops_or_speeds_up_a_kill(event: LifeEvent):
    life = runner()
    life.handle(KillRequested(), 1.0)
    assert life.handle(event, 1.1) == []
    assert life.deadline == 1.0 + KILL_HANDLERS_GRACE
    assert life.handle(DeadlinePassed(), 1.2) == [ExitNow(ExitCode.KILLED)]


def test_a_runner_whose_hub_is_gone_stops_and_then_exits():
    life = runner()
    assert life.handle(PeerLost(), 5.0) == [CallStopHandlers(HUB_LOST_GRACE * 1000, can_keep_alive=False)]
    assert life.deadline == 5.0 + HUB_LOST_GRACE
    assert life.handle(DeadlinePassed(), 7.0) == [CallKillHandlers()]
    assert life.handle(DeadlinePassed(), 7.2) == [ExitNow(ExitCode.STOPPED)]


@given(st.lists(EVENTS, max_size=12))
def test_a_runner_exits_once_at_most_and_only_behind_a_kill(events: list[LifeEvent]):
    life = RunnerLife()
    seen = []
    for now, event in enumerate(events):
        try:
            seen += life.handle(event, float(now))
        except RefusedEventError:
            continue
        if life.state is State.KILLING and life.deadline is None:
            break  # where the process ends
    exits = [effect for effect in seen if isinstance(effect, ExitNow)]
    assert len(exits) <= 1
    assert seen.count(CallKillHandlers()) >= len(exits)


@given(st.sampled_from([HubLife, RunnerLife]), st.lists(EVENTS, max_size=12))
def test_a_refused_event_changes_nothing_and_an_end_is_final(
    kind: type[HubLife] | type[RunnerLife], events: list[LifeEvent]
):
    life = kind()
    for now, event in enumerate(events):
        before = vars(life).copy()
        try:
            life.handle(event, float(now))
            refused = False
        except RefusedEventError:
            refused = True
        assert refused == ((before["state"], type(event)) not in TRANSITIONS)
        if refused:
            assert vars(life) == before
        if before["state"] in ENDED:
            assert life.state == before["state"]
        if life.state in ENDED:
            assert life.deadline is None


@given(st.lists(EVENTS, max_size=12))
def test_a_killing_instance_always_has_a_deadline_or_was_forced(events: list[LifeEvent]):
    life = HubLife()
    forced = False
    for now, event in enumerate(events):
        try:
            effects = life.handle(event, float(now))
        except RefusedEventError:
            continue
        forced = forced or ForceKill() in effects
        if life.state is State.KILLING:
            assert life.deadline is not None or forced
