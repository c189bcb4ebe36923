"""What is counted as being in memory."""

from __future__ import annotations

import pytest

from consumers.client import Record
from consumers.in_flight import InFlight


def record(offset: int, partition: int = 0) -> Record:
    return Record("clicks", partition, offset, 0, b"key", b"v" * 997, (("name", None),))


SIZE = 512 + 1_004


@pytest.mark.parametrize(("most", "full"), [(SIZE + 1, False), (SIZE, True), (SIZE - 1, True)])
def test_it_is_full_at_its_edge_and_one_always_has_room(most: int, full: bool) -> None:
    in_flight = InFlight(most)
    assert not in_flight.full
    in_flight.took(record(0))
    assert (in_flight.bytes, in_flight.full) == (SIZE, full)


def test_what_is_settled_or_gone_is_counted_no_more() -> None:
    in_flight = InFlight(10 * SIZE)
    for offset in (3, 4, 7):
        in_flight.took(record(offset))
        in_flight.took(record(offset, partition=1))
    in_flight.settled(0, 7)
    assert in_flight.bytes == 4 * SIZE
    in_flight.settled(0, 7)
    in_flight.forget(1)
    in_flight.forget(5)
    assert in_flight.bytes == SIZE
    in_flight.settled(0, 8)
    assert in_flight.bytes == 0
