"""The benchmark of precision: both are followed, and the difference is told the right way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ops.bench import precision as bench
from ops.bench.following import Followed
from ops.quality.sources import Source


def test_both_are_followed_and_bf16_that_hits_less_is_told_as_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    n = np.arange(8)
    exact = Followed(np.ones((8, 2), np.bool_), n, n, n / 8, n)
    asked: list[object] = []

    def follow(data: Source, *, start: float, precision: str, label: str) -> Followed:
        asked.append(precision)
        return exact if precision == "fp32" else replace(exact, hits=exact.hits & (n < 6)[:, None])

    monkeypatch.setattr(bench, "follow", follow)
    row = bench.row(Source("shop", "shop")).split(" | ")
    assert asked == ["fp32", "bf16"]
    assert row[:4] == ["| shop", "8", "1.0000", "0.7500"]
    assert row[4].startswith("-0.2500 ± 0.")
