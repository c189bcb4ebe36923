"""What the contract's tests share: whether a broker's transactions hold, and topics read as any reader reads them."""

from __future__ import annotations

import uuid

import pytest

from consumers.capability import why_no_transactions
from producers.connection import Connection
from producers.topics import Topics

_found: dict[str, str | None] = {}


@pytest.fixture
def transactional(request: pytest.FixtureRequest, broker: Connection, topics: Topics) -> Connection:
    """The broker, if its transactions hold; what it cannot do is skipped under its name."""
    topics.ensure(broker)
    if broker.bootstrap not in _found:
        _found[broker.bootstrap] = why_no_transactions(broker, topics.layers, f"probe-{uuid.uuid4().hex}")
    why = _found[broker.bootstrap]
    if why is not None:
        pytest.skip(f"{request.node.callspec.params['broker']} has no transactions that hold: {why}")
    return broker
