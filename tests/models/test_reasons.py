"""What a sentence may say where learned weights speak against an item."""

from __future__ import annotations

import pytest

from models.features import PARTS
from models.reasons import sentence


def said(parts: dict[str, float], named: str = "", label: str = "", times: int = 0) -> str:
    """The sentence of an item with these parts."""
    every = [parts.get(part, 0.0) for part in PARTS]
    return sentence(sum(every), every, named, "view", label, met="purchase", times=times)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"layer": -0.01, "co": 0.1, "popularity": -0.9}, "Often chosen together with what you chose"),
        ({"co": -0.1, "text": -0.2, "popularity": -0.3, "layer": -0.4}, "Something different"),
        ({"co": -0.3, "text": -0.2, "popularity": 0.1}, "Popular right now"),
        ({}, "New in the catalogue"),
    ],
)
def test_what_lowers_an_item_is_not_why_it_is_here(parts: dict[str, float], text: str) -> None:
    assert said(parts, label="Tea") == text


def test_what_he_chose_himself_is_told_where_it_counts_most() -> None:
    assert said({"own": 1.0, "co": 0.6}, "Tea", times=1) == "Something you bought before"
    assert said({"own": 1.0, "co": 0.6}, "Tea", times=12) == "Something you chose 12 times"
    assert said({"own": 0.5, "co": 0.6}, "Tea", times=12) == "Because you looked at Tea"
    assert said({"own": -1.0, "co": 0.6}, "Tea", times=12) == "Because you looked at Tea"


def test_a_share_is_one_of_what_raises_the_item() -> None:
    little = said({"co": 2.0, "text": -1.9, "layer": 0.02}, "Tea", "Hot drinks")
    assert little == "Because you looked at Tea", "the layer adds a hundredth, however little is left"


def test_a_click_that_was_named_by_what_goes_together_is_not_called_alike() -> None:
    assert said({"co": 0.5, "text": 2.0}, "Tea") == "Because you looked at Tea"
    assert said({"co": 0.01, "text": 2.0}, "Tea") == "Like Tea, which you looked at"


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_what_is_told_goes_by_shares_whatever_the_scores_are(scale: float) -> None:
    def scaled(**parts: float) -> str:
        return said({part: scale * value for part, value in parts.items()}, "Tea")

    assert scaled(co=0.3, popularity=0.7) == "Because you looked at Tea; popular right now"
    assert scaled(co=0.05, text=0.95) == "Like Tea, which you looked at"
