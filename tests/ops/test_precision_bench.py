"""The benchmark of precision: both are followed, and the difference is told the right way round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ops.bench import precision as bench
from ops.bench.following import Followed, follow
from ops.quality import sources
from ops.quality.sources import Source
from producers.dataset import write


def test_both_are_followed_and_bf16_that_hits_less_is_told_as_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    n = np.arange(8)
    exact = Followed(np.ones((8, 2), np.bool_), n, n, n / 8, n)
    asked: list[object] = []

    def followed(data: Source, *, start: float, precision: str, label: str) -> Followed:
        asked.append(precision)
        return exact if precision == "fp32" else replace(exact, hits=exact.hits & (n < 6)[:, None])

    monkeypatch.setattr(bench, "follow", followed)
    row = bench.row(Source("shop", "shop")).split(" | ")
    assert asked == ["fp32", "bf16"]
    assert row[:4] == ["| shop", "8", "1.0000", "0.7500"]
    assert row[4].startswith("-0.2500 ± 0.")


def test_the_catalogue_that_is_followed_is_encoded_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    def encoder(**settings: object) -> None:
        raise Asked(settings["precision"])

    monkeypatch.setattr(sources.Encoder, "load", encoder)
    sources._encoder.cache_clear()
    write(tmp_path / "toy", [{"item_id": "a", "title": "a"}], [{"user_id": "u", "item_id": "a", "ts": 1}])
    toy = sources.source(str(tmp_path / "toy"))
    asked: tuple[tuple[Literal["bf16"] | None, str], ...] = (("bf16", "bf16"), (None, "fp32"))
    for precision, wanted in asked:
        with pytest.raises(Asked, match=wanted):
            follow(toy, precision=precision)
