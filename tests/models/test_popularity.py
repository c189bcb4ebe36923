from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.popularity import DecayedCounts


def exact(clicks: list[tuple[int, int, int, float]], group: int, now: int, half_life: float) -> dict[int, float]:
    counts: dict[int, float] = {}
    for g, row, at, weight in clicks:
        if g == group:
            counts[row] = counts.get(row, 0.0) + weight * 0.5 ** ((now - at) / half_life)
    return counts


def filled(clicks: list[tuple[int, int, int, float]], cuts: list[int], capacities: list[int]) -> DecayedCounts:
    counts = DecayedCounts(capacities, (5.0, 50.0))
    edges = [0, *sorted(cuts), len(clicks)]
    for start, end in itertools.pairwise(edges):
        part = clicks[start:end]
        columns = [list(column) for column in zip(*part, strict=True)] if part else [[], [], [], []]
        counts.add(*columns)
    return counts


steps = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 40), st.sampled_from([1.0, 0.25, 0.7])),
    min_size=1,
    max_size=80,
)


@given(steps, st.lists(st.integers(0, 80), max_size=4))
@settings(max_examples=60, deadline=None)
def test_counts_are_the_decayed_sums_and_the_same_bits_however_clicks_are_batched(
    moves: list[tuple[int, int, int, float]], cuts: list[int]
) -> None:
    at = np.cumsum([step for _, _, step, _ in moves]).tolist()
    clicks = [(group, row, t, weight) for (group, row, _, weight), t in zip(moves, at, strict=True)]
    cuts = [min(cut, len(clicks)) for cut in cuts]
    whole, parts = filled(clicks, [], [10, 10]), filled(clicks, cuts, [10, 10])
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.totals, parts.totals)
    tight, tight_parts = filled(clicks, [], [3, 5]), filled(clicks, cuts, [3, 5])
    np.testing.assert_array_equal(tight.rows, tight_parts.rows)
    np.testing.assert_array_equal(tight.counts, tight_parts.counts)
    now = at[-1] + 3
    for group in (0, 1):
        rows, counts, totals = whole.group(group, now)
        for h, half_life in enumerate((5.0, 50.0)):
            wanted = exact(clicks, group, now, half_life)
            assert set(rows.tolist()) == set(wanted)
            np.testing.assert_allclose(counts[h], [wanted[row] for row in rows.tolist()], rtol=1e-4, atol=1e-12)
            np.testing.assert_allclose(totals[h], sum(wanted.values()), rtol=1e-6, atol=1e-12)


def test_a_full_group_forgets_its_least_clicked_and_keeps_its_total() -> None:
    counts = DecayedCounts([8], (1e9,))
    for row in range(8):
        counts.add([0] * (row + 1), [row] * (row + 1), [1] * (row + 1))
    counts.add([0, 0], [100, 5], [2, 2])
    rows, numbers, totals = counts.group(0, 2)
    assert rows.tolist() == [2, 3, 4, 5, 6, 7, 100]
    np.testing.assert_allclose(numbers[0], [3, 4, 5, 7, 7, 8, 1])
    np.testing.assert_allclose(totals, [38])


def test_clicks_that_wait_while_a_group_forgets_go_to_the_right_items() -> None:
    counts = DecayedCounts([4], (1e9,))
    counts.add([0] * 12, [1, 2, 2, 3, 3, 4, 4, 4, 9, 4, 8, 2], [1] * 12)
    rows, numbers, _ = counts.group(0, 1)
    assert dict(zip(rows.tolist(), numbers[0].tolist(), strict=True)) == {4: 4.0, 2: 3.0, 3: 2.0, 8: 1.0}


def test_a_cleared_group_begins_anew() -> None:
    counts = DecayedCounts([4, 4], (10.0,))
    counts.add([0, 1], [1, 2], [1, 1])
    counts.clear(0)
    counts.add([0], [3], [1])
    assert counts.group(0, 1)[0].tolist() == [3]
    assert counts.group(1, 1)[0].tolist() == [2]
    np.testing.assert_allclose(counts.group(0, 1)[2], [1])


def test_counts_stay_finite_over_a_very_long_stream() -> None:
    counts = DecayedCounts([4], (5.0, 50_000.0))
    for t in range(0, 10**7, 10**5):
        counts.add([0], [1], [t])
    _, numbers, totals = counts.group(0, t)
    np.testing.assert_allclose(numbers[0], 1)
    assert np.isfinite(counts.counts).all()
    np.testing.assert_allclose(numbers[1], 1 / (1 - 0.5**2), rtol=1e-5)
    np.testing.assert_allclose(totals, numbers[:, 0], rtol=1e-5)
