"""The loop step by step, on a consumer, a stage and a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from consumers.client import Partition, Rebalance, Record
from consumers.delivery import AtLeastOnce
from consumers.loop import Loop
from consumers.loop_config import LoopConfig
from consumers.metrics import Metrics
from consumers.stage import Work
from producers.errors import (
    BrokerUnavailable,
    CommitFailed,
    CommitRefused,
    GroupJoinTimeout,
    LogRolledBack,
    PublishFailed,
    TransactionAborted,
)
from producers.publisher import Message

P0, P1 = ("clicks", 0), ("clicks", 1)


class FakeConsumer:
    """A :class:`~consumers.client.Consumer` that does what the test tells it, and writes down what it is told."""

    def __init__(self) -> None:
        self.log: dict[Partition, list[Record]] = {}
        self.events: list[Rebalance] = []
        self.committed: dict[Partition, int] = {}
        self.next: dict[Partition, int] = {}
        self.paused: set[Partition] = set()
        self.ends: dict[Partition, int | None] = {}
        self.refuse: Exception | None = None
        self.joined = True
        self.polls = 0
        self.timeouts: list[float] = []
        self.closed = False

    def fill(self, partition: Partition, count: int) -> None:
        log = self.log.setdefault(partition, [])
        for _ in range(count):
            log.append(Record(*partition, len(log), 1_000 * len(log), b"user", b"%d" % len(log)))
        self.ends[partition] = len(log)

    def assign(self, *partitions: Partition) -> None:
        self.events.append(Rebalance("assigned", frozenset(partitions)))

    def revoke(self, *partitions: Partition, lost: bool = False) -> None:
        self.events.append(Rebalance("lost" if lost else "revoked", frozenset(partitions)))

    def poll(self, timeout_s: float, max_records: int) -> list[Record]:
        self.polls += 1
        self.timeouts.append(timeout_s)
        records = []
        for partition in sorted(set(self.next) - self.paused):
            at = self.next[partition]
            taken = self.log.get(partition, [])[at : at + max_records - len(records)]
            self.next[partition] += len(taken)
            records += taken
        return records

    def rebalances(self) -> list[Rebalance]:
        events, self.events = self.events, []
        return events

    def start(self, partition: Partition, contained: int | None = None) -> int | None:
        self.next[partition] = self.committed.get(partition, contained or 0)
        self.paused.discard(partition)
        return self.next[partition]

    def pause(self, partitions: Iterable[Partition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        self.paused -= set(partitions)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        if self.refuse:
            raise self.refuse
        self.committed.update(offsets)

    def position(self, partition: Partition) -> int | None:
        return self.next.get(partition)

    def highwater(self, partition: Partition) -> int | None:
        return self.ends.get(partition)

    def close(self) -> None:
        self.closed = True


class FakeStage:
    """Takes ``room`` records; finishes them when told."""

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.restored: dict[Partition, int] = {}
        self.queue: list[Record] = []
        self.hold = False
        self.ready_at = 0.0
        self.replacement: Work | None = None
        self.calls: list[Any] = []
        self.threads: set[int] = set()

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        self.threads.add(threading.get_ident())

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int] | None:
        self._note("assigned", set(partitions))
        return self.restored

    def revoked(self, partitions: Iterable[Partition]) -> None:
        self._note("revoked", set(partitions))
        self.queue = [r for r in self.queue if (r.topic, r.partition) not in set(partitions)]

    def submit(self, records: Sequence[Record]) -> int:
        taken = records[: max(0, self.room - len(self.queue))]
        self._note("submit", len(taken))
        self.queue += taken
        return len(taken)

    def poll(self, now: float) -> Work | None:
        self.threads.add(threading.get_ident())
        if self.hold or now < self.ready_at or not self.queue:
            return None
        done, self.queue = self.queue, []
        offsets = {(r.topic, r.partition): r.offset + 1 for r in done}
        return Work([Message("lists", r.key, r.value, r.partition) for r in done], offsets)

    def published(self, work: Work) -> None:
        self._note("published", dict(work.offsets))

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        return self.replacement

    def idle(self) -> bool:
        return not self.queue

    def close(self) -> None:
        self._note("close")


class FakePublisher:
    def __init__(self, order: list[str], consumer: FakeConsumer) -> None:
        self.published: list[Message] = []
        self.fail: list[Exception] = []
        self.order = order
        self.consumer = consumer
        self.committed_before: list[dict[Partition, int]] = []

    def publish(self, messages: Iterable[Message]) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.committed_before.append(dict(self.consumer.committed))
        self.published += messages


class Harness:
    def __init__(self, metrics: Metrics, room: int = 1_000, **config: Any) -> None:
        self.now = 100.0
        self.consumer = FakeConsumer()
        self.stage = FakeStage(room)
        self.publisher = FakePublisher([], self.consumer)
        self.metrics = metrics
        self.loop = Loop(
            "role", self.consumer, self.stage, AtLeastOnce(self.publisher, self.consumer), metrics,  # type: ignore[arg-type]
            LoopConfig(**config), clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def steps(self, number: int) -> None:
        for _ in range(number):
            self.loop.step()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"strata_{name}", labels)


@pytest.fixture
def harness(metrics: Metrics) -> Harness:
    return Harness(metrics)


def test_offsets_are_committed_only_after_everything_is_acknowledged(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.steps(3)
    assert [m.value for m in harness.publisher.published] == [b"0", b"1", b"2"]
    assert harness.publisher.committed_before == [{}]
    assert harness.consumer.committed == {P0: 3}
    assert ("published", {P0: 3}) in harness.stage.calls


def test_nothing_is_committed_when_the_publish_fails_for_good(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.publisher.fail = [PublishFailed("too large")]
    with pytest.raises(PublishFailed):
        harness.steps(3)
    assert harness.consumer.committed == {}


def test_an_error_before_the_acknowledgements_is_never_taken_for_a_failed_commit(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.publisher.fail = [BrokerUnavailable("gone")]
    with pytest.raises(BrokerUnavailable):
        harness.steps(3)
    assert harness.loop._checkpoint._uncommitted == {}
    assert harness.consumer.committed == {}


def test_a_publish_that_the_broker_does_not_answer_is_tried_again_and_then_given_up(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.publisher.fail = [PublishFailed("no answer", retriable=True)] * 3
    harness.steps(3)
    assert harness.consumer.committed == {P0: 3}
    assert harness.sample("publish_failures_total", role="role") == 3

    harness.consumer.fill(P0, 1)
    harness.publisher.fail = [PublishFailed("no answer", retriable=True)] * 1_000
    with pytest.raises(PublishFailed):
        harness.steps(2)
    assert harness.consumer.committed == {P0: 3}


def test_work_that_did_not_take_effect_is_done_again_from_the_committed_offsets(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.steps(2)
    harness.consumer.fill(P0, 3)
    harness.publisher.fail = [TransactionAborted("fenced")]
    harness.steps(3)
    assert len(harness.publisher.published) == 2, "first it is listened for a rebalance"
    harness.now += 3
    harness.steps(3)
    assert [m.value for m in harness.publisher.published] == [b"0", b"1", b"2", b"3", b"4"]
    assert harness.consumer.committed == {P0: 5}
    kinds = [call[0] for call in harness.stage.calls if call[0] in ("assigned", "revoked")]
    assert kinds == ["assigned", "revoked", "assigned"], "the state is read anew"
    assert harness.sample("transactions_aborted_total", role="role") == 1
    assert harness.sample("partitions_assigned_total", role="role") == 1


def test_partitions_that_went_with_the_abort_are_not_taken_up_again(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.fill(P1, 2)
    harness.consumer.assign(P0, P1)
    harness.publisher.fail = [TransactionAborted("the group moved on")]
    harness.consumer.joined = False
    harness.steps(4)
    assert harness.publisher.published == [], "nothing is read before the membership is settled"
    harness.consumer.revoke(P0)
    harness.now += 3
    harness.consumer.joined = True
    harness.steps(3)
    assert harness.consumer.committed == {P1: 2}


def test_aborts_without_end_stop_the_loop(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.publisher.fail = [TransactionAborted("fenced")] * 3
    harness.steps(3)
    harness.now += 61
    with pytest.raises(TransactionAborted):
        harness.steps(3)
    assert harness.consumer.committed == {}


def test_a_drain_after_an_abort_ends_and_commits_nothing(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    harness.stage.hold = False
    harness.publisher.fail = [TransactionAborted("fenced")]
    harness.loop.drain()
    assert harness.consumer.committed == {}
    assert harness.stage.idle()


def test_what_the_broker_refuses_is_replaced_by_what_the_stage_says_and_committed_with_the_rest(
    harness: Harness,
) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.publisher.fail = [PublishFailed("too large", refused=[(Message("lists", b"k", b"0"), "too large")])]
    harness.stage.replacement = Work([Message("dead-letters", b"k", b"0"), Message("lists", b"k", b"1")], {P0: 2})
    harness.steps(3)
    assert [m.topic for m in harness.publisher.published] == ["dead-letters", "lists"]
    assert harness.consumer.committed == {P0: 2}


def test_backpressure_pauses_and_keeps_polling_and_loses_nothing(metrics: Metrics) -> None:
    harness = Harness(metrics, room=2)
    harness.consumer.fill(P0, 7)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    polls = harness.consumer.polls
    assert harness.consumer.paused == {P0}
    harness.steps(5)
    assert harness.consumer.polls == polls + 5
    assert harness.sample("pauses_total", role="role") == 1

    harness.stage.hold = False
    harness.steps(10)
    assert harness.consumer.paused == set()
    assert [m.value for m in harness.publisher.published] == [b"%d" % i for i in range(7)]
    assert harness.consumer.committed == {P0: 7}


def test_a_partition_that_comes_during_backpressure_is_paused_too(metrics: Metrics) -> None:
    harness = Harness(metrics, room=1)
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    harness.consumer.assign(P1)
    harness.steps(1)
    assert harness.consumer.paused == {P0, P1}


def test_records_polled_before_a_revocation_belong_to_the_next_owner(metrics: Metrics) -> None:
    harness = Harness(metrics, room=1)
    harness.consumer.fill(P0, 3)
    harness.consumer.fill(P1, 1)
    harness.consumer.assign(P0, P1)
    harness.stage.hold = True
    harness.steps(2)  # one record in the stage, the others held
    harness.consumer.revoke(P0)
    harness.steps(1)
    harness.stage.hold = False
    harness.steps(3)
    assert [(m.partition, m.value) for m in harness.publisher.published] == [(1, b"0")]
    assert harness.consumer.committed == {P1: 1}
    assert ("revoked", {P0}) in harness.stage.calls


def test_a_revocation_during_the_poll_takes_the_records_of_that_poll_along(harness: Harness) -> None:
    harness.consumer.fill(P1, 1)
    harness.consumer.assign(P0, P1)
    harness.steps(1)
    harness.consumer.fill(P0, 3)
    harness.consumer.revoke(P0)
    harness.steps(3)
    assert [(m.partition, m.value) for m in harness.publisher.published] == [(1, b"0")]
    assert harness.consumer.committed == {P1: 1}


def test_what_is_in_flight_is_committed_before_its_partition_goes(harness: Harness) -> None:
    harness.stage.ready_at = harness.now + 1
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.steps(2)
    polls = harness.consumer.polls
    harness.consumer.revoke(P0)
    harness.steps(1)
    assert harness.consumer.committed == {P0: 3}
    assert harness.stage.calls[-2:] == [("published", {P0: 3}), ("revoked", {P0})]
    assert harness.consumer.polls == polls + 1, "the next poll gives the partition away"
    assert harness.sample("revoke_seconds_count", role="role") == 1


def test_what_is_not_finished_in_time_is_dropped_whole_with_its_partition(metrics: Metrics) -> None:
    harness = Harness(metrics, revoke_s=5.0)
    harness.stage.ready_at = harness.now + 60
    harness.consumer.fill(P0, 3)
    harness.consumer.fill(P1, 2)
    harness.consumer.assign(P0, P1)
    harness.steps(2)
    harness.consumer.revoke(P0)
    began = harness.now
    harness.steps(1)
    assert 5 <= harness.now - began < 5.1
    assert harness.publisher.published == []
    assert harness.loop.dead() is None
    harness.now += 60
    harness.steps(1)
    assert harness.consumer.committed == {P1: 2}, "what stays is finished as ever"
    assert {m.partition for m in harness.publisher.published} == {1}


def test_a_broker_that_does_not_answer_holds_up_no_revocation(metrics: Metrics) -> None:
    harness = Harness(metrics, revoke_s=5.0)
    harness.stage.hold = True
    harness.consumer.fill(P0, 3)
    harness.consumer.fill(P1, 2)
    harness.consumer.assign(P0, P1)
    harness.steps(2)
    harness.stage.hold = False
    harness.publisher.fail = [PublishFailed("no answer", retriable=True)] * 12
    harness.consumer.revoke(P0)
    began = harness.now
    harness.steps(1)
    assert harness.now - began < 6
    harness.now += 3
    harness.publisher.fail.clear()
    harness.steps(3)
    assert harness.consumer.committed == {P1: 2}, "what stays is read again from its committed offset"
    assert {m.partition for m in harness.publisher.published} == {1}


def test_lost_partitions_are_dropped_at_once_and_counted_apart(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    harness.consumer.revoke(P0, lost=True)
    began = harness.now
    harness.steps(1)
    assert harness.now == began
    harness.stage.hold = False
    harness.steps(2)
    assert harness.publisher.published == []
    assert harness.sample("partitions_revoked_total", role="role", kind="lost") == 1
    assert harness.sample("lag_offsets", role="role", topic="clicks", partition="0") is None


def test_state_is_restored_before_the_first_fetch(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.steps(2)
    kinds = [call[0] for call in harness.stage.calls]
    assert kinds.index("assigned") < kinds.index("submit")


def test_a_commit_refused_because_the_group_moved_on_is_dropped_with_its_partition(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.fill(P1, 2)
    harness.consumer.assign(P0, P1)
    harness.consumer.refuse = CommitRefused("moved on")
    harness.steps(2)
    assert harness.consumer.committed == {}
    harness.consumer.revoke(P0)
    harness.steps(1)
    harness.consumer.refuse = None
    harness.steps(2)
    # what stays is committed again without new work, what went is not
    assert harness.consumer.committed == {P1: 2}
    assert harness.sample("commit_failures_total", role="role") >= 1


def test_a_commit_that_nobody_answers_stops_the_loop_in_the_end(harness: Harness) -> None:
    harness.consumer.fill(P0, 2)
    harness.consumer.assign(P0)
    harness.consumer.refuse = CommitFailed("no answer")
    harness.steps(5)
    harness.now += 61
    with pytest.raises(CommitFailed):
        harness.steps(1)


@pytest.mark.parametrize(("committed", "restored"), [(9, 0), (2, 9)], ids=["committed", "applied"])
def test_a_log_that_ends_before_what_was_read_stops_the_loop(harness: Harness, committed: int, restored: int) -> None:
    harness.consumer.fill(P0, 5)
    harness.consumer.committed[P0] = committed
    harness.stage.restored = {P0: restored}
    harness.consumer.assign(P0)
    with pytest.raises(LogRolledBack, match=r"clicks-0.*log ends at 5.*rebuild"):
        harness.steps(3)
    assert harness.publisher.published == []


def test_a_log_that_shrinks_under_a_running_loop_stops_it(harness: Harness) -> None:
    harness.consumer.fill(P0, 5)
    harness.consumer.assign(P0)
    harness.steps(3)
    harness.consumer.ends[P0] = 1
    harness.now += 2
    with pytest.raises(LogRolledBack):
        harness.steps(1)


def test_the_guard_waits_until_the_end_of_the_log_is_known(harness: Harness) -> None:
    harness.consumer.committed[P0] = 9
    harness.consumer.ends[P0] = None
    harness.consumer.assign(P0)
    harness.steps(3)
    harness.consumer.ends[P0] = 9
    harness.steps(3)
    assert harness.loop.dead() is None


def test_a_join_that_does_not_complete_is_an_error_not_a_hang(harness: Harness) -> None:
    harness.consumer.joined = False
    harness.steps(1)
    assert harness.loop.unready() is not None
    harness.now += 31
    with pytest.raises(GroupJoinTimeout, match="30 s"):
        harness.steps(1)


def test_a_member_without_partitions_is_ready_and_waits(harness: Harness) -> None:
    harness.now += 100
    harness.steps(3)
    assert harness.loop.unready() is None


def test_a_stop_drains_what_is_in_flight_and_takes_nothing_more(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    harness.consumer.fill(P0, 5)
    harness.stage.hold = False
    stop = threading.Event()
    stop.set()
    harness.loop.run(stop)
    assert harness.consumer.committed == {P0: 3}
    assert harness.loop.unready() == "role: stopping"
    assert harness.stage.calls[-1] == ("close",)
    assert harness.consumer.closed


def test_a_drain_ends_when_its_time_is_up(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(2)
    began = harness.now
    stop = threading.Event()
    stop.set()
    harness.loop.run(stop)
    assert harness.now - began <= 30
    assert harness.consumer.committed == {}
    assert harness.consumer.closed


def test_an_error_leaves_without_commit_and_without_readiness(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    harness.publisher.fail = [PublishFailed("too large")]
    with pytest.raises(PublishFailed):
        harness.loop.run(threading.Event())
    assert harness.loop.dead() == "role: PublishFailed: too large"
    assert harness.loop.unready() is not None
    assert harness.consumer.closed
    assert harness.stage.calls[-1] == ("close",)


def test_a_loop_that_does_not_step_counts_as_dead(harness: Harness) -> None:
    harness.steps(1)
    assert harness.loop.dead() is None
    harness.now += 61
    assert harness.loop.dead() == "role: no step for 61 s"


def test_lag_is_reported_in_offsets_and_seconds(metrics: Metrics) -> None:
    harness = Harness(metrics, room=1)
    harness.stage.hold = True
    harness.consumer.fill(P0, 1_000)
    harness.consumer.assign(P0)
    harness.steps(1)
    harness.now += 1
    harness.steps(1)
    assert harness.sample("lag_offsets", role="role", topic="clicks", partition="0") == 500
    seconds = harness.sample("lag_seconds", role="role", topic="clicks", partition="0")
    assert seconds is not None
    assert seconds > 0


def test_every_stage_method_runs_on_the_loops_thread(harness: Harness) -> None:
    harness.consumer.fill(P0, 3)
    harness.consumer.assign(P0)
    stop = threading.Event()
    thread = threading.Thread(target=harness.loop.run, args=(stop,))
    thread.start()
    while harness.consumer.committed != {P0: 3}:
        pass
    stop.set()
    thread.join()
    assert harness.stage.threads == {thread.ident}


def test_the_loop_waits_long_only_when_nothing_is_in_flight(harness: Harness) -> None:
    harness.consumer.assign(P0)
    harness.steps(2)
    assert harness.consumer.timeouts[-1] == 0.1
    harness.stage.hold = True
    harness.consumer.fill(P0, 1)
    harness.steps(2)
    assert harness.consumer.timeouts[-1] == 0  # there was a record just now
    harness.steps(1)
    assert harness.consumer.timeouts[-1] == 0.02


def test_what_is_finished_on_another_thread_wakes_the_loop(metrics: Metrics) -> None:
    waits: list[float | None] = []

    class Wake(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return True

    harness = Harness(metrics)
    harness.loop._wake = Wake()
    harness.consumer.fill(P0, 1)
    harness.consumer.assign(P0)
    harness.stage.hold = True
    harness.steps(4)
    assert waits == [0.02]
    assert harness.consumer.timeouts[-1] == 0
