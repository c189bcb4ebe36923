"""An encoder that is slow, out of memory, or not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from bookshop import Bookshop, value, wait_for
from invariant import check
from kafka import KafkaAdminClient
from numpy.typing import NDArray

from models.encoder import Encoder
from models.errors import ChecksumMismatch, ModelNotFound, StrataError
from producers.connection import Connection
from producers.topics import Topics

pytestmark = pytest.mark.broker

USERS = [f"reader-{n}" for n in range(80)]


class Troubled:
    """A real encoder with something before each batch: it may take its time, or raise."""

    def __init__(self, encoder: Encoder, trouble: Callable[[Sequence[NDArray[np.int32]]], None]) -> None:
        self._encoder = encoder
        self._trouble = trouble

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, inputs: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        self._trouble(inputs)
        return self._encoder.encode(inputs)


@pytest.fixture
def shop(tansu: Connection, topics: Topics, tiny: str, stock: Callable[[Bookshop], None]) -> Iterator[Bookshop]:
    shop = Bookshop(tansu, topics, model=tiny, threads=1)
    stock(shop)
    yield shop
    shop.publisher.close()


@pytest.fixture
def encoder(tiny: str) -> Encoder:
    return Encoder.load(tiny, precision="fp32", device="cpu", threads=1)


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


def test_a_slow_encoder_delays_no_list_and_loses_no_partition(shop: Bookshop, encoder: Encoder) -> None:
    slow = Troubled(encoder, lambda inputs: time.sleep(3))  # longer than the session's 2 s
    with shop.running(["updater"], encoder=slow, deadline_ms=200, encoder_queue=16) as process:  # type: ignore[arg-type]
        shop.readers(USERS, 3)
        wait_for(lambda: done(shop), "everything committed")
        assert value(process, "strata_encoder_queue_users", outlet="users") <= 16
        assert value(process, "strata_lists_published_total", encoded="false") >= len(USERS) - 16
        for kind in ("lost", "revoked"):
            assert value(process, "strata_partitions_revoked_total", role="updater", kind=kind) == 0
    check(shop, once=False)


def test_an_encoder_that_runs_out_of_memory_gets_smaller_batches(shop: Bookshop, encoder: Encoder) -> None:
    refused: list[int] = []

    def small(inputs: Sequence[NDArray[np.int32]]) -> None:
        if len(inputs) > 3:
            refused.append(len(inputs))
            raise MemoryError(f"{len(inputs)} inputs")

    troubled = Troubled(encoder, small)
    with shop.running(["updater"], encoder=troubled, deadline_ms=60_000):  # type: ignore[arg-type]
        shop.readers(USERS, 3)
        wait_for(lambda: done(shop), "everything committed")
    assert refused
    assert all(made.encoded for made in shop.lists().values())
    assert check(shop, once=False).letters == 0


def test_an_encoder_that_always_fails_leaves_lists_from_cached_vectors(shop: Bookshop, encoder: Encoder) -> None:
    def never(inputs: Sequence[NDArray[np.int32]]) -> None:
        raise MemoryError

    with shop.running(["updater"], encoder=Troubled(encoder, never), deadline_ms=60_000):  # type: ignore[arg-type]
        shop.readers(USERS[:10], 3)
        wait_for(lambda: done(shop), "everything committed")
    lists = shop.lists()
    assert not any(made.encoded for made in lists.values())
    assert all(made.items for made in lists.values())
    assert check(shop, once=False).letters == 0


def test_a_history_that_the_encoder_cannot_read_alone_leaves_its_users_a_list_from_cached_vectors(
    shop: Bookshop, encoder: Encoder
) -> None:
    """No dead letter: the click is fine, it is in the profile and in a list. The failure is counted and logged."""
    poison: list[bytes] = []

    def choosy(inputs: Sequence[NDArray[np.int32]]) -> None:
        poison[:] = poison or [inputs[0].tobytes()]
        if any(one.tobytes() == poison[0] for one in inputs):
            raise MemoryError(f"{len(inputs)} inputs")

    with shop.running(["updater"], encoder=Troubled(encoder, choosy), deadline_ms=60_000) as process:  # type: ignore[arg-type]
        shop.readers(USERS, 1)
        wait_for(lambda: done(shop), "everything committed")
        wait_for(lambda: value(process, "strata_encoder_errors_total"), "the failure is counted")
    lists = shop.lists()
    clicked = {click.user_id: click.item_id for click in shop.sent}
    unread = {user for user, made in lists.items() if not made.encoded}
    assert len({clicked[user] for user in unread}) == 1, "those whose only click is on one and the same book"
    assert all(made.items for made in lists.values())
    assert check(shop, once=False).letters == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"model": "/nowhere/at/all"}, ModelNotFound), ({"model_sha256": "0" * 64}, ChecksumMismatch)],
    ids=["missing", "changed"],
)
def test_without_its_model_a_worker_ends_before_it_joins_the_group(
    shop: Bookshop, given: dict[str, str], expected: type[StrataError]
) -> None:
    with pytest.raises(expected), shop.running(["updater"], **given):
        pass
    admin = KafkaAdminClient(**shop.connection.client("test"))
    try:
        assert shop.given["group"] not in {group["group_id"] for group in admin.list_groups()}
    finally:
        admin.close()
