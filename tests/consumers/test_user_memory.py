"""Users are state, so their number is not bounded; what one costs is."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from consumers.shard import Shard
from models.events import Click
from models.items import ItemStore
from models.profile import Profile

USERS = 10_000


@pytest.mark.parametrize(("clicks", "most"), [(1, 1_100), (50, 3_300)])
def test_an_idle_user_costs_his_record_and_little_more(clicks: int, most: int) -> None:
    items, profile = ItemStore(384), Profile("x", vector=np.full(384, 384**-0.5, np.float32))
    for n in range(clicks):
        click = Click(user_id="x", item_id=f"sku-{n:06d}", ts=1_760_000_000_000, event="view")
        profile.apply(click, n, items)
    record = profile.record(items, 0)
    shard = Shard(0, items, 10)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(USERS):
        shard.restore(f"user-{n:08d}", bytes(bytearray(record)))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    each = (after - before) / USERS
    print(f"\n{clicks} clicks: {len(record):,} bytes on the topic, {each:,.0f} in memory")
    assert each < most
