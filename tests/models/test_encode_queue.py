from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.encode_queue import EncodeQueue, Outlet
from models.encoder import Encoder
from models.errors import EncoderDied

Tokens = NDArray[np.int32]


class Lengths:
    """An encoder whose vector is the input's length, and that remembers its batches."""

    def __init__(self, token_budget: int = 100) -> None:
        self.token_budget = token_budget
        self.batches: list[list[int]] = []
        self.before: Callable[[Sequence[Tokens]], None] = lambda inputs: None

    def encode(self, inputs: Sequence[Tokens], /) -> NDArray[np.float32]:
        self.batches.append([len(ids) for ids in inputs])
        self.before(inputs)
        return np.array([[len(ids)] for ids in inputs], np.float32)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tokens(length: int) -> Tokens:
    return np.ones(length, np.int32)


def fill(outlet: Outlet, *lengths: int, prefix: str = "") -> None:
    for n, length in enumerate(lengths):
        assert outlet.submit(f"{prefix}{n}", tokens(length))


@pytest.fixture
def encoder() -> Lengths:
    return Lengths()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(encoder: Lengths, clock: Clock) -> Iterator[EncodeQueue]:
    queue = EncodeQueue(encoder, clock=clock)
    yield queue
    assert queue.close(10)


@pytest.fixture
def users(queue: EncodeQueue) -> Outlet:
    return queue.outlet("users", capacity=50, share=0.8)


def drained(outlet: Outlet) -> list[tuple[object, object, float | None]]:
    return [(r.key, r.tag, None if r.vector is None else float(r.vector[0])) for r in outlet.drain()]


def test_a_user_with_five_clicks_is_encoded_once(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    for offset in range(5):
        assert users.submit("ann", tokens(3 + offset), offset)
    assert users.pending == 1
    assert queue.step() == 1
    assert drained(users) == [("ann", 4, 7.0)]
    assert (users.pending, queue.step()) == (0, 0)


def test_a_replaced_key_keeps_its_place_in_the_line(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    encoder.token_budget = 10
    fill(users, 6, 7, 8)
    users.submit("0", tokens(9), "newer")
    queue.step()
    assert drained(users) == [("0", "newer", 9.0)]


def test_a_click_during_the_encoding_is_not_lost(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    users.submit("ann", tokens(3), 1)

    def click_again(inputs: Sequence[Tokens]) -> None:
        encoder.before = lambda inputs: None
        assert users.submit("ann", tokens(4), 2)

    encoder.before = click_again
    queue.step()
    assert users.pending == 2
    queue.step()
    assert drained(users) == [("ann", 1, 3.0), ("ann", 2, 4.0)]


def test_a_full_outlet_says_no_until_it_is_drained(queue: EncodeQueue, users: Outlet) -> None:
    fill(users, *[2] * 50)
    assert not users.submit("one more", tokens(2))
    assert users.submit("7", tokens(3)), "a key that waits already takes no further room"
    queue.step()
    assert not users.submit("one more", tokens(2)), "results that nobody took still hold their place"
    users.drain()
    assert users.submit("one more", tokens(2))


def test_outlets_are_bounded_apart(queue: EncodeQueue, users: Outlet) -> None:
    items = queue.outlet("items", capacity=1, share=0.2)
    fill(users, *[2] * 50)
    assert items.submit("sock", tokens(2))
    assert not items.submit("milk", tokens(2))


def test_a_batch_holds_the_token_budget_in_order_of_arrival(
    queue: EncodeQueue, users: Outlet, encoder: Lengths
) -> None:
    fill(users, 60, 30, 30, 10, 250, 5)
    while queue.step():
        pass
    assert encoder.batches == [[60, 30], [30, 10], [250], [5]]
    assert [key for key, _, _ in drained(users)] == list("012345")


def test_a_catalogue_neither_holds_users_up_nor_starves(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    items = queue.outlet("items", capacity=100, share=0.2)
    fill(items, *[5] * 100)
    fill(users, *[10] * 20)
    queue.step()
    assert sorted(encoder.batches[-1]) == [5] * 4 + [10] * 8  # each its share of 100 tokens
    queue.step()
    assert sorted(encoder.batches[-1]) == [5] * 4 + [10] * 8
    queue.step()
    assert sorted(encoder.batches[-1]) == [5] * 4 + [10] * 4, "the last users do not wait for a batch full of items"
    queue.step()
    assert encoder.batches[-1] == [5] * 20, "with no user waiting the catalogue has the encoder to itself"


def test_a_long_item_passes_although_its_share_is_smaller(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    items = queue.outlet("items", capacity=100, share=0.01)
    fill(items, 90)
    fill(users, 90, 90)
    queue.step()
    assert encoder.batches == [[90, 90]]
    assert len(items.drain()) == len(users.drain()) == 1


def test_users_take_what_items_leave(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    items = queue.outlet("items", capacity=100, share=0.2)
    fill(items, 5)
    fill(users, *[10] * 20)
    queue.step()
    assert encoder.batches == [[5] + [10] * 9]


@pytest.mark.parametrize("bad", [{3}, {0, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, set()])
def test_only_the_input_that_fails_comes_back_with_an_error(
    bad: set[int], queue: EncodeQueue, users: Outlet, encoder: Lengths
) -> None:
    def check(inputs: Sequence[Tokens]) -> None:
        if any(len(ids) - 2 in bad for ids in inputs):
            raise MemoryError("too much")

    encoder.before = check
    fill(users, *range(2, 10))
    queue.step()
    results = users.drain()
    assert [r.key for r in results] == [str(n) for n in range(8)]
    assert {n for n, r in enumerate(results) if r.error is not None} == bad
    assert all((r.vector is None) == isinstance(r.error, MemoryError) for r in results)
    (stats,) = queue.take_stats()
    assert (stats.failed, stats.retries > 0) == (len(bad), bool(bad))


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(
    queue: EncodeQueue, users: Outlet, encoder: Lengths
) -> None:
    def check(inputs: Sequence[Tokens]) -> None:
        if sum(map(len, inputs)) > 25:
            raise RuntimeError("out of memory")

    encoder.before = check
    fill(users, *[10] * 8)
    queue.step()
    assert all(r.error is None for r in users.drain())
    assert queue.take_stats()[0].retries == 6


def test_what_is_discarded_never_comes_back(queue: EncodeQueue, users: Outlet, encoder: Lengths) -> None:
    encoder.token_budget = 10
    fill(users, 10, 10, 10)
    queue.step()  # 0 is ready
    encoder.before = lambda inputs: users.discard(["0", "1", "2", "unknown"])  # 1 is in flight, 2 waits
    queue.step()
    assert (users.drain(), users.pending, queue.step()) == ([], 0, 0)
    assert users.submit("1", tokens(4), "again")
    queue.step()
    assert users.drain() == [], "what is discarded during its own encoding, too"


def test_each_batch_is_accounted_for(queue: EncodeQueue, users: Outlet, encoder: Lengths, clock: Clock) -> None:
    items = queue.outlet("items", capacity=100, share=0.2)
    fill(users, 10, 20)
    clock.now = 1.5
    fill(items, 5)
    encoder.before = lambda inputs: setattr(clock, "now", 2.0)
    queue.step()
    (stats,) = queue.take_stats()
    assert stats.inputs == {"users": 2, "items": 1}
    assert (stats.tokens, stats.seconds, stats.waited, stats.retries, stats.failed) == (35, 0.5, 1.5, 0, 0)
    assert queue.take_stats() == []


def test_an_outlet_without_room_or_share_is_refused(queue: EncodeQueue) -> None:
    for capacity, share in ((0, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(ValueError, match="above 0"):
            queue.outlet("users", capacity=capacity, share=share)


# -- the thread ---------------------------------------------------------------------------------------------------


def test_the_thread_says_when_results_are_ready(queue: EncodeQueue) -> None:
    ready = threading.Event()
    users = queue.outlet("users", capacity=10, share=1, on_ready=ready.set)
    queue.start()
    users.submit("ann", tokens(3))
    assert ready.wait(10)
    assert drained(users) == [("ann", None, 3.0)]


def test_a_small_batch_lingers_until_its_deadline_or_a_full_budget(encoder: Lengths, clock: Clock) -> None:
    queue, ready = EncodeQueue(encoder, linger=60, clock=clock), threading.Event()
    users = queue.outlet("users", capacity=10, share=1, on_ready=ready.set)
    queue.start()
    users.submit("0", tokens(40))
    users.submit("1", tokens(40))
    users.submit("2", tokens(40))  # beyond the budget: the batch is full
    assert ready.wait(10)
    ready.clear()
    clock.now = 61.0
    users.submit("3", tokens(1))  # the third is overdue
    assert ready.wait(10)
    assert queue.close(10)
    assert encoder.batches == [[40, 40], [40, 1]]


def test_newest_first_where_late_is_no_use(queue: EncodeQueue, encoder: Lengths) -> None:
    users = queue.outlet("users", capacity=10, share=1, newest_first=True)
    fill(users, 60, 61, 62)
    users.submit("0", tokens(63))  # clicked again
    assert queue.step() == 1, "batches of half the budget"
    assert encoder.batches == [[63]]
    users.submit("later", tokens(10), later=True)
    while queue.step():
        pass
    assert encoder.batches == [[63], [62], [61], [10]]


def test_what_may_come_later_is_urgent_once_it_is_asked_for_in_time(queue: EncodeQueue, encoder: Lengths) -> None:
    users = queue.outlet("users", capacity=10, share=1)
    users.submit("ann", tokens(70), later=True)
    users.submit("bob", tokens(71), later=True)
    users.submit("cid", tokens(72))
    users.submit("bob", tokens(73))
    while queue.step():
        pass
    assert encoder.batches == [[73], [72], [70]]


def test_what_waits_can_be_withdrawn_and_what_is_being_encoded_cannot(queue: EncodeQueue, encoder: Lengths) -> None:
    users = queue.outlet("users", capacity=10, share=1)
    fill(users, 3, 4)
    assert users.withdraw("1")
    withdrawn: list[bool] = []
    encoder.before = lambda inputs: withdrawn.append(users.withdraw("0"))
    queue.step()
    assert drained(users) == [("0", None, 3.0)]
    assert withdrawn == [False]


def test_an_encoder_that_has_died_is_not_asked_again_in_halves(queue: EncodeQueue, encoder: Lengths) -> None:
    users = queue.outlet("users", capacity=10, share=1)
    fill(users, 3, 4)

    def die(inputs: Sequence[Tokens]) -> None:
        raise EncoderDied("exit status -9")

    encoder.before = die
    with pytest.raises(EncoderDied):
        queue.step()
    assert encoder.batches == [[3, 4]]


def test_a_dead_thread_is_not_taken_for_a_quiet_one(queue: EncodeQueue, encoder: Lengths) -> None:
    ready = threading.Event()
    users = queue.outlet("users", capacity=10, share=1, on_ready=ready.set)

    def die(inputs: Sequence[Tokens]) -> None:
        raise SystemExit("killed")

    encoder.before = die
    queue.start()
    users.submit("ann", tokens(3))
    assert ready.wait(10)
    with pytest.raises(RuntimeError, match="died"):
        users.drain()


def test_closing_waits_for_the_batch_in_hand_and_leaves_the_rest(queue: EncodeQueue, encoder: Lengths) -> None:
    users = queue.outlet("users", capacity=10, share=1)
    begun, go_on = threading.Event(), threading.Event()

    def hold(inputs: Sequence[Tokens]) -> None:
        begun.set()
        assert go_on.wait(10)

    encoder.before = hold
    queue.start()
    users.submit("0", tokens(3))
    assert begun.wait(10)
    users.submit("1", tokens(4))
    assert not queue.close(0)
    go_on.set()
    assert queue.close(10)
    assert drained(users) == [("0", None, 3.0)]
    assert users.pending == 1
    with pytest.raises(RuntimeError, match="started before"):
        queue.start()


def test_the_real_encoder_gives_the_same_vectors_through_the_queue() -> None:
    encoder = Encoder.load(precision="fp32", device="cpu", token_budget=40)
    queue, done = EncodeQueue(encoder), threading.Semaphore(0)
    users = queue.outlet("users", capacity=100, share=0.8, on_ready=done.release)
    items = queue.outlet("items", capacity=100, share=0.2, on_ready=done.release)
    inputs = encoder.inputs([[ids] for ids in encoder.tokenise([f"{'sock ' * (n % 5)}{n}" for n in range(12)])])
    queue.start()
    for n, ids in enumerate(inputs):
        assert (users if n % 3 else items).submit(n, ids)
    vectors: dict[object, NDArray[np.float32]] = {}
    while len(vectors) < len(inputs):
        assert done.acquire(timeout=60)
        vectors |= {r.key: r.vector for outlet in (users, items) for r in outlet.drain() if r.vector is not None}
    assert queue.close(10)
    np.testing.assert_allclose(np.array([vectors[n] for n in range(12)]), encoder.encode(inputs), atol=2e-6)
