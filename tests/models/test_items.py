"""The catalogue in memory."""

from collections import defaultdict

import numpy as np
import pytest

from models.errors import DimensionMismatch, InvalidEvent
from models.filters import Filters
from models.items import ItemStore, item_hash
from models.policy import Blocked, Policy
from models.records import ItemVector, half


def vector_record(vector: np.ndarray, **fields: object) -> ItemVector:
    return ItemVector(
        **({"model": "m", "text_hash": b"", "tokens": b"", "vector": half(vector), "title": "T"} | fields)  # type: ignore[arg-type]
    )


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=shape) + 0.5
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32)


def test_a_row_is_given_at_first_mention_and_kept() -> None:
    items = ItemStore(4)
    rows = [items.row(f"i{n}") for n in range(3000)]  # past the first allocation
    assert rows == list(range(3000))
    assert items.put("i5", vector_record(unit(4))) == 5
    assert items.find("i5") == 5
    assert items.find("never") == -1
    assert items.hashes[2999] == item_hash("i2999")


def test_a_vector_of_another_model_is_refused_and_changes_nothing() -> None:
    items = ItemStore(4)
    with pytest.raises(DimensionMismatch, match="4"):
        items.put("i", vector_record(unit(5)))
    assert len(items) == 0


def test_what_holds_whatever_the_model_is_taken_without_the_vector() -> None:
    items = ItemStore(4)
    row = items.put("a", vector_record(unit(4), tokens=np.arange(3, dtype="<i4").tobytes()))
    items.changed.clear()
    other = {"title": "New", "category": "wine", "tags": ("red",), "safety": ("alcohol",), "tokens": b"\1\0\0\0"}
    assert items.put_facts("a", vector_record(unit(5), available=False, expires_ms=99, **other)) == row
    assert (items.titles[row], items.categories[row], items.tags[row], items.safety[row]) == (
        "New", "wine", ("red",), ("alcohol",),
    )  # fmt: skip
    assert (items.available[row], items.expires_ms[row]) == (False, 99)
    assert items.encoded[row]
    np.testing.assert_allclose(items.vectors[row], unit(4), atol=1e-3)
    assert items.tokens[row].tolist() == [0, 1, 2]
    assert items.changed == {row}
    fresh = items.put_facts("b", vector_record(unit(5)))
    assert (items.described[fresh], items.available[fresh], items.encoded[fresh]) == (True, True, False)


def test_what_lacks_nothing_but_a_vector_is_awaited() -> None:
    items = ItemStore(4)
    items.row("unknown")
    items.put("fine", vector_record(unit(4)))
    for item, fields in (
        ("coming", {}), ("off", {"available": False}), ("old", {"expires_ms": 100}), ("bad", {"category": "wine"}),
        ("gone", {}), ("came", {}),
    ):  # fmt: skip
        items.put_facts(item, vector_record(unit(5), **fields))
    items.withdraw("gone")
    items.put("came", vector_record(unit(4)))
    filters = Filters(items, {}, frozenset({"wine"}), frozenset(), defaultdict(int))
    filters.follow()
    assert [items.ids[row] for row in np.flatnonzero(filters.awaited(100))] == ["coming"]
    assert [items.ids[row] for row in np.flatnonzero(filters.awaited(99))] == ["coming", "old"]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_and_changes_nothing(number: float) -> None:
    store = ItemStore(4)
    good = store.put("a", vector_record(unit(4)))
    before = store.vectors.copy()
    for item in ("a", "b"):
        with pytest.raises(InvalidEvent, match="finite"):
            store.put(item, vector_record(np.array([0, number, 0, 0], np.float32)))
    assert (store.vectors == before).all()
    assert store.find("b") == -1
    assert store.encoded[good]


def test_only_what_is_encoded_available_and_not_expired_is_offered() -> None:
    items = ItemStore(4)
    items.row("unknown")
    items.put("fine", vector_record(unit(4)))
    items.put("off", vector_record(unit(4), available=False))
    items.put("old", vector_record(unit(4), expires_ms=99))
    items.put("gone", vector_record(unit(4)))
    items.withdraw("gone")
    assert items.withdraw("never") == -1
    filters = Filters(items, {}, frozenset(), frozenset(), defaultdict(int))
    filters.follow()
    assert filters.offered(100).tolist() == [False, True, False, False, False]


def test_what_is_on_offer_is_worked_out_anew_only_when_it_changes() -> None:
    items = ItemStore(4)
    for name, expires_ms in (("a", None), ("b", 200), ("c", 300)):
        items.put(name, vector_record(unit(4), expires_ms=expires_ms))
    filters = Filters(items, {}, frozenset({"wine"}), frozenset(), defaultdict(int))
    filters.follow()
    first = filters.offered(100)
    assert first.tolist() == [True, True, True]
    assert filters.offered(199) is first
    assert filters.offered(200).tolist() == [True, False, True]
    assert filters.offered(100).tolist() == [True, True, True], "a moment before, asked for later"
    assert (late := filters.offered(300)).tolist() == [True, False, False]
    assert filters.offered(10**12) is late, "nothing is left that expires"
    filters.offered(100)
    items.withdraw("a")
    assert filters.offered(100).tolist() == [False, True, True], "at once, though nobody has followed"
    items.put("c", vector_record(unit(4), available=False))
    assert filters.offered(100).tolist() == [False, True, False]
    items.put("b", vector_record(unit(4), category="wine"))
    assert filters.offered(100).tolist() == [False, True, False]
    filters.follow()
    assert filters.offered(100).tolist() == [False, False, False]
    items.changed.clear()
    items.mention("d")
    filters.follow()
    assert filters.offered(100).tolist() == [False, False, False, False]
    items.put("d", vector_record(unit(4)))
    items.put("c", vector_record(unit(4)))
    filters.follow()
    assert filters.offered(100).tolist() == [False, False, True, True]
    filters.apply(Policy(blocked=Blocked(blocked_items=frozenset({"c"}))))
    filters.follow(again=True)
    assert filters.offered(100).tolist() == [False, False, False, True], "c, and wine as before"


def test_centring_takes_off_the_mean_and_keeps_unit_length() -> None:
    items = ItemStore(8)
    vectors = unit(200, 8)
    for n, vector in enumerate(vectors):
        items.put(f"i{n}", vector_record(vector))
    assert items.recentre()
    assert not items.recentre(), "nothing changed since"
    rows = np.arange(200)
    stored = vectors.astype(np.float16).astype(np.float32)
    expected = stored - stored.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(items.centred(rows), expected, atol=1e-5)


def test_an_unencoded_item_has_a_zero_vector_not_a_nan() -> None:
    items = ItemStore(8)
    row = items.row("unknown")
    assert not items.centred(np.array([row])).any()


def test_a_handful_of_items_is_not_centred() -> None:
    items = ItemStore(8)
    items.put("i", vector_record(unit(8)))
    items.recentre()
    assert np.linalg.norm(items.centred(np.array([0]))) == pytest.approx(1, abs=1e-3)
