"""How old a layer is, and who comes and goes."""

from __future__ import annotations

import numpy as np
import pytest

from models.layer_lives import HALF_LIFE, JUST_BEGUN, Churn, LayerLives

IDS = ["root", "0", "1", "0.0", "0.1", "1.0", "1.1"]
ROOT, ZERO, ONE, ZERO_0, ZERO_1, ONE_0, ONE_1 = range(7)


def test_who_moves_joins_one_layer_and_leaves_another_at_each_level_that_he_crosses() -> None:
    lives = LayerLives(IDS)
    assert lives.refreshed("0.0", "0.0") == ()
    assert set(lives.refreshed("0.0", "0.1")) == {ZERO_0, ZERO_1}, "he stays in 0"
    assert set(lives.refreshed("0.1", "1.0")) == {ZERO_1, ONE_0, ZERO, ONE}
    assert lives.churn(ZERO_0) == pytest.approx((0, 1 / 2), abs=1e-4)
    assert lives.churn(ZERO_1) == pytest.approx((1 / 2, 1 / 2), abs=1e-4)
    assert lives.churn(ONE_0) == lives.churn(ONE) == Churn(1, 0)
    assert lives.churn(ZERO) == pytest.approx((0, 1 / 3), abs=1e-4)
    assert lives.churn(ONE_1) is None
    assert lives.churn(ROOT) is None, "nobody comes to everybody"


@pytest.mark.parametrize(("before", "after"), [("", "0.0"), ("0.0", ""), ("", ""), ("root", "0.0"), ("7.7", "0.0")])
def test_who_is_new_or_in_no_layer_neither_comes_nor_goes(before: str, after: str) -> None:
    lives = LayerLives(IDS)
    assert lives.refreshed(before, after) == ()
    assert [lives.churn(layer) for layer in range(7)] == [None] * 7


def test_what_was_half_a_life_ago_counts_half_for_however_long_it_runs() -> None:
    lives = LayerLives(IDS)
    lives.weight = 2.0**60
    for _ in range(9 * HALF_LIFE):
        lives.refreshed("1.0", "1.0")
    assert 0 < lives.weight < 2.0**60, "it has outgrown its limit"
    lives.refreshed("0.0", "1.0")
    for _ in range(HALF_LIFE):
        lives.refreshed("1.0", "1.0")
    after = lives.churn(ONE_0)
    assert after is not None
    every = sum(0.5 ** (n / HALF_LIFE) for n in range(10 * HALF_LIFE))
    assert after.joined == pytest.approx(0.5 / every, rel=1e-3)


def test_a_layer_that_begins_anew_has_no_past_and_is_told_when_it_began() -> None:
    lives = LayerLives(IDS)
    lives.tell(1_000)
    lives.updates += np.arange(7)
    lives.refreshed("0.0", "1.1")
    lives.begin([ONE_1])
    assert lives.since_ms == [1_000] * 6 + [JUST_BEGUN]
    assert lives.updates.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert (lives.churn(ONE_1), lives.churn(ONE)) == (None, Churn(1, 0))
    lives.tell(5_000)
    assert lives.since_ms == [1_000] * 6 + [5_000]
