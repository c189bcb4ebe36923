"""Co-occurrence."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.breaks import KEPT
from models.errors import InvalidEvent
from models.item_rows import Table
from models.items import ItemStore
from models.linear import CoClicks
from models.neighbours import WIDTH, WINDOW, Neighbours
from models.reason_loops import between
from models.records import NeighbourRow


def table(n: int = 30, width: int = WIDTH) -> Neighbours:
    items = ItemStore(4)
    for i in range(n):
        items.row(f"i{i}")
    return Neighbours(items, width)


def dense(neighbours: Neighbours) -> np.ndarray:
    n = len(neighbours.items)
    out = np.zeros((n, n), np.float64)
    for row in range(n):
        for place in range(neighbours.sizes[row]):
            out[row, neighbours.ids[row, place]] += neighbours.weights[row, place]
    return out


def by_definition(stream: list[tuple[int, list[int]]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """C and n of design §7, as they are written down."""
    c, counts = np.zeros((n, n)), np.zeros(n)
    for row, history in stream:
        counts[row] += 1
        for lag, other in enumerate(history[:WINDOW], 1):
            if other != row:
                c[row, other] += lag**-0.5
                c[other, row] += lag**-0.5
    return c, counts


@given(st.lists(st.integers(0, 11), max_size=60))
def test_the_table_is_the_sum_that_defines_it(clicks: list[int]) -> None:
    neighbours = table(12)
    stream = [(row, clicks[:i][::-1]) for i, row in enumerate(clicks)]
    for row, history in stream:
        neighbours.learn(row, history)
    neighbours.grow()
    c, counts = by_definition(stream, 12)
    np.testing.assert_allclose(dense(neighbours), c, atol=1e-4)
    np.testing.assert_array_equal(neighbours.counts[:12], counts)


def test_scores_are_the_decayed_sum_over_the_history() -> None:
    neighbours = table(12)
    draw = np.random.default_rng(3)
    for _ in range(200):
        neighbours.learn(int(draw.integers(12)), draw.integers(12, size=6).tolist())
    rows = np.array([[3, 5, 3], [7, 0, 0]])
    decay = np.array([[1, 0.9, 0.81], [1, 0, 0]], np.float32)
    co = neighbours.co(rows, decay)
    c, counts = dense(neighbours), neighbours.counts[:12]
    for user in range(2):
        for q in range(12):
            expected = sum(
                decay[user, m] * c[rows[user, m], q] / np.sqrt((counts[rows[user, m]] + 1) * (counts[q] + 1))
                for m in range(3)
            )
            assert co[user, q] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def summands(table: Table, rows: np.ndarray, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What each click of each user gives to each of his targets."""
    made = np.zeros((*targets.shape, rows.shape[1]), np.float32)
    for user, own in enumerate(targets):
        maybe = np.zeros(4_096, np.uint8)
        maybe[own] = 1
        between(table, rows[user], weights[user], own, maybe, np.zeros(table.ids.shape[1] + 1, np.int32), made[user])
    return made


def test_what_clicks_give_to_an_item_adds_up_to_its_score() -> None:
    neighbours = table(12)
    draw = np.random.default_rng(4)
    for _ in range(200):
        neighbours.learn(int(draw.integers(12)), draw.integers(12, size=6).tolist())
    rows, decay = np.array([[3, 5, 9], [7, 0, 0]]), np.array([[1, 0.9, 0.81], [1, 0, 0]], np.float32)
    scores = neighbours.scores(rows, decay)
    for targets in (np.array([[0, 1, 4], [2, 0, 11]]), np.array([[6, 8], [8, 3]])):  # each with no trace of the other
        gains = summands(neighbours.table, rows, neighbours.weighed(rows, decay), targets)
        np.testing.assert_allclose(gains.sum(axis=2), np.take_along_axis(scores, targets, axis=1), rtol=1e-4)


def test_a_full_row_gives_up_its_lightest_for_a_newcomer() -> None:
    neighbours = table(30, width=4)
    for other, times in ((1, 3), (2, 1), (3, 3), (4, 3)):
        for _ in range(times):
            neighbours.learn(0, [other])
    assert set(neighbours.ids[0].tolist()) == {1, 2, 3, 4}
    neighbours.learn(0, [9])
    assert set(neighbours.ids[0].tolist()) == {1, 3, 4, 9}
    neighbours.learn(8, list(range(10, 30)))  # more newcomers at once than there is room for
    assert neighbours.sizes[8] == 4


def test_a_repeat_says_nothing_about_two_items() -> None:
    neighbours = table()
    neighbours.learn(5, [5, 5])
    assert neighbours.counts[5] == 1
    assert not dense(neighbours)[5].any()


def test_item_0_is_no_empty_place() -> None:
    neighbours = table()
    neighbours.learn(3, [0])
    neighbours.learn(0, [4])
    assert dense(neighbours)[3, 0] == 1
    assert dense(neighbours)[4, 0] == 1


def taught(clicks: int = 200, seed: int = 3) -> Neighbours:
    neighbours, draw = table(12), np.random.default_rng(seed)
    for _ in range(clicks):
        neighbours.learn(int(draw.integers(12)), draw.integers(12, size=6).tolist())
    return neighbours


def test_at_a_break_a_list_stays_as_it_is_and_new_clicks_weigh_more() -> None:
    neighbours = taught(5_000)
    rows, decay = np.array([[3]]), np.ones((1, 1), np.float32)
    before = neighbours.co(rows, decay)[0]
    clicks, old = neighbours.counts[:12].copy(), dense(neighbours)
    neighbours.dirty()
    assert neighbours.forget([1_000])
    assert not neighbours.forget([1_000])
    after = neighbours.co(rows, decay)[0]
    np.testing.assert_allclose(after, before, rtol=0.06)  # but for the 1 beside each n
    np.testing.assert_array_equal(neighbours.counts[:12], clicks)
    assert neighbours.dirty() == []
    for _ in range(60):  # a tenth of what was known of the pair
        neighbours.learn(3, [7])
    c = dense(neighbours)
    assert c[3, 7] == pytest.approx(KEPT * old[3, 7] + 60, rel=1e-4)
    fresh = neighbours.co(rows, decay)[0]
    assert fresh[7] > 1.5 * before[7]
    np.testing.assert_array_equal(neighbours.counts[:12] - clicks, [60 * (row == 3) for row in range(12)])


def test_a_click_of_before_a_break_that_comes_after_it_weighs_as_if_it_had_come_before() -> None:
    early, late = table(12), table(12)
    early.learn(3, [4, 5])
    early.forget([1_000])
    late.forget([1_000])
    late.learn(3, [4, 5], moment=999)
    np.testing.assert_allclose(dense(late), dense(early))
    np.testing.assert_allclose(late.effective[:12], early.effective[:12])
    np.testing.assert_array_equal(late.counts[:12], early.counts[:12])


def test_what_came_after_a_break_that_is_found_late_weighs_whole() -> None:
    draw = np.random.default_rng(4)
    clicks = [(int(draw.integers(12)), draw.integers(12, size=6).tolist()) for _ in range(60)]
    at_once, late, told = table(12), table(12), table(12)
    told.forget([20, 40])
    for moment, (row, history) in enumerate(clicks):
        if moment == 40:
            at_once.forget([40])
        for each in (at_once, late, told):
            each.learn(row, history, moment=moment)
    late.dirty()
    assert late.forget([40])
    assert set(late.dirty()) == {row for row, history in clicks[40:] for row in (row, *history)}
    for each in (at_once, late, told):
        each.learn(*clicks[0], moment=30)
    assert late.forget([20]), "and of one that began before that"
    at_once.forget([20])
    for each in (at_once, late):
        np.testing.assert_allclose(dense(each), dense(told), rtol=1e-4)
        np.testing.assert_allclose(each.effective[:12], told.effective[:12], rtol=1e-5)
        np.testing.assert_array_equal(each.counts[:12], told.counts[:12])
    np.testing.assert_allclose(late.damping[:12], 1 / np.sqrt(late.effective[:12] + 1), rtol=1e-6)


@given(st.permutations(["rows", "more rows", "weights", "weights again"]))
def test_a_reader_forgets_what_the_writer_forgot_in_whatever_order_it_hears_of_it(order: list[str]) -> None:
    writer, reader = taught(), table(12)
    rows = {f"i{row}": writer.record(row, {}) for row in range(12)}
    writer.forget([1_000])
    writer.learn(2, [3])
    writer.forget([1_000, 2_000])
    writer.learn(4, [5])
    more = {f"i{row}": writer.record(row, {}) for row in (2, 3, 4, 5)}
    for what in order:
        if what == "more rows" or (what == "rows" and order.index("rows") < order.index("more rows")):
            for item, record in (rows if what == "rows" else more).items():
                reader.put(item, record)
        elif what == "rows":  # a row never comes after a newer one of its item
            for item in rows.keys() - more.keys():
                reader.put(item, rows[item])
        else:
            reader.forget([1_000, 2_000])
    np.testing.assert_allclose(dense(reader), dense(writer), rtol=1e-5)
    np.testing.assert_allclose(reader.effective[:12], writer.effective[:12], rtol=1e-5)
    np.testing.assert_array_equal(reader.counts[:12], writer.counts[:12])


def test_a_row_of_before_there_were_breaks_counts_whole() -> None:
    neighbours = taught()
    old = msgspec.structs.replace(neighbours.record(3, {}), effective=None)
    reader = table(12)
    reader.put("i3", msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=NeighbourRow))
    assert reader.effective[3] == reader.counts[3] == neighbours.counts[3] > 0


def test_rows_travel_by_record_to_a_reader_with_other_row_numbers() -> None:
    neighbours = table()
    for row, history in ((1, [2, 3]), (2, [1]), (3, [2, 1, 0])):
        neighbours.learn(row, history)
    assert neighbours.dirty() == [0, 1, 2, 3]
    assert neighbours.dirty() == []
    items = ItemStore(4)
    for i in reversed(range(30)):
        items.row(f"i{i}")
    reader = Neighbours(items)
    for row in range(4):
        reader.put(f"i{row}", neighbours.record(row, {0: 17}))
    turned = dense(reader)[::-1, ::-1]
    np.testing.assert_allclose(turned, dense(neighbours))
    assert neighbours.record(1, {0: 17}).offsets == {0: 17}
    weights = np.frombuffer(neighbours.record(2, {}).weights, "<f4")
    assert (np.diff(weights) <= 0).all()


def test_a_shorter_record_leaves_nothing_of_the_longer_one_behind() -> None:
    reader = table()
    reader.put("i1", NeighbourRow(count=3, items=("i2", "i3"), weights=np.float32([2, 1]).tobytes(), offsets={}))
    reader.put("i1", NeighbourRow(count=4, items=("i4",), weights=np.float32([5]).tobytes(), offsets={}))
    assert dense(reader)[1].nonzero()[0].tolist() == [4]
    reader.put("i1", None)
    assert not dense(reader)[1].any()
    assert reader.counts[1] == reader.effective[1] == 0


@pytest.mark.parametrize("weights", [[1.0], [1.0, np.nan], [1.0, 2.0, 3.0]])
def test_a_record_that_does_not_fit_is_refused(weights: list[float]) -> None:
    reader = table()
    record = NeighbourRow(count=1, items=("i2", "i3"), weights=np.float32(weights).tobytes(), offsets={})
    with pytest.raises(InvalidEvent):
        reader.put("i1", record)
    assert not dense(reader)[1].any() if len(reader.counts) else True


@pytest.mark.parametrize("counts", [(-1, None), (np.nan, None), (np.inf, 1), (1, -0.5), (1e39, None), (1, 1e39)])
def test_a_record_whose_counts_are_none_is_refused(counts: tuple[float, float | None]) -> None:
    reader = table()
    row = NeighbourRow(count=3, items=("i2",), weights=np.float32([1]).tobytes(), offsets={})
    reader.put("i1", row)
    with pytest.raises(InvalidEvent, match="numbers from 0 up"):
        reader.put("i1", msgspec.structs.replace(row, count=counts[0], effective=counts[1], items=()))
    assert (reader.counts[1], reader.effective[1], dense(reader)[1, 2]) == (3, 3, 1)


def test_the_damping_follows_the_clicks_that_count() -> None:
    neighbours = taught()
    row = neighbours.record(3, {})

    def check() -> None:
        np.testing.assert_allclose(neighbours.damping, (neighbours.effective + 1) ** -0.5, rtol=1e-6)

    check()
    neighbours.forget([1_000])
    check()
    neighbours.put("i3", row)
    check()
    for item in range(2_000):
        neighbours.items.row(f"more {item}")
    neighbours.learn(2_000, [3], moment=999)
    check()
    neighbours.put("i3", None)
    check()
    assert neighbours.damping[3] == neighbours.damping[1_999] == 1 > neighbours.damping[2_000]


def solved(neighbours: Neighbours, *users: list[int]) -> None:
    counts = CoClicks(neighbours.items)
    for rows in users:
        counts.learn_user(neighbours.items.hashes[rows])
    neighbours.take(counts.solve(1.0))


def test_the_linear_part_travels_in_the_same_record() -> None:
    neighbours = table()
    neighbours.learn(1, [2])
    solved(neighbours, [1, 2, 3], [1, 2], [3, 4], [4, 1])
    items = ItemStore(4)
    for i in reversed(range(30)):
        items.row(f"i{i}")
    reader = Neighbours(items)
    for row in range(5):
        reader.put(f"i{row}", neighbours.record(row, {}))
    every, newest = np.arange(1, 5)[:, None], np.ones((4, 1), np.float32)
    expected = neighbours.linear.scores(every, newest)
    assert (expected != 0).sum() == 12
    assert expected.min() < 0 < expected.max(), "what speaks against an item travels too"
    np.testing.assert_array_equal(reader.linear.scores(29 - every, newest)[:, ::-1], expected)
    gains = summands(reader.linear.table, 29 - every.T, newest.T, 29 - np.array([[1, 2, 3]]))
    np.testing.assert_allclose(gains[0].T, expected[:, 1:4])
    solved(neighbours, [1, 2])
    reader.put("i4", neighbours.record(4, {}))
    reader.put("i1", None)
    assert not reader.linear.scores(np.array([[25], [28]]), newest[:2]).any(), "out of the solution; withdrawn"


@pytest.mark.parametrize("weights", [[1.0], [1.0, np.inf]])
def test_a_record_whose_linear_part_does_not_fit_is_refused(weights: list[float]) -> None:
    reader = table()
    row = NeighbourRow(count=1, items=("i2",), weights=np.float32([1]).tobytes(), offsets={})
    reader.put("i1", row)
    bad = msgspec.structs.replace(row, count=9, linear_items=("i2", "i3"), linear_weights=np.float32(weights).tobytes())
    with pytest.raises(InvalidEvent):
        reader.put("i1", bad)
    assert reader.counts[1] == 1, "it is all taken or nothing"
    assert not reader.linear.weights.any()
