"""The deep part: what the net makes of a history, that training finds what follows what, and readers that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from models import sequence, sequence_learning
from models.histories import Histories
from models.items import ItemStore
from models.neighbours import WINDOW
from models.profile import Profile
from models.records import ItemVector, half
from models.sequence import SequenceConfig, SequenceNet, SequenceScorer, inputs_of
from models.sequence_learning import SequenceLearner, SequenceLearning

D = 24
ITEMS = 40
SMALL = SequenceConfig(dimension=16, heads=2, slots=1024)
QUICK = SequenceLearning(batch=64, replay=2, memory=4_000, rate=1e-2, negatives=24)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in a process of roles: two that wait for each other take fifteen times as long on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unit(n: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=(n, D)) + 0.5
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def put(items: ItemStore, row: int, vector: np.ndarray) -> None:
    items.put(f"i{row}", ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title=f"T{row}"))


def shelf(n: int = ITEMS, seed: int = 0) -> ItemStore:
    items = ItemStore(D)
    for row, vector in enumerate(unit(n, seed)):
        put(items, row, vector)
    return items


def some_net(items: ItemStore, seed: int = 3, size: float = 0.2) -> SequenceNet:
    """A net that has something to say of everything."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = SequenceNet(D, SMALL)
        net.centre(torch.from_numpy(items.vectors[: len(items)]))
        for parameter in net.parameters():
            parameter += size * torch.randn_like(parameter)
    return net


def worked_out(items: ItemStore, net: SequenceNet, version: int = 1) -> SequenceScorer:
    scorer = SequenceScorer(items, SMALL)
    scorer.put(net, version)
    while scorer.pending:
        scorer.follow()
    return scorer


def histories(*clicks: Sequence[int]) -> Histories:
    """Of users with these clicks, oldest first."""
    return Histories.of([Profile("u", rows=list(rows), clicks=len(rows)) for rows in clicks])


def scores(scorer: SequenceScorer, *clicks: Sequence[int]) -> np.ndarray:
    """Of every item, for each user."""
    rows = np.tile(np.arange(len(scorer.items)), (len(clicks), 1))
    return scorer.scores(histories(*clicks), rows, np.ones(rows.shape, np.bool_))


# -- the net ---------------------------------------------------------------------------------------------------------


def test_a_state_does_not_depend_on_who_else_is_in_the_batch() -> None:
    items = shelf()
    scorer = worked_out(items, some_net(items))
    users = [[1, 2, 3], [], list(range(30)), [7], [9, 9, 9]]
    together = scores(scorer, *users)
    for at, own in enumerate(users):
        assert together[at] == pytest.approx(scores(scorer, own)[0], abs=1e-5)


def test_what_stands_past_the_last_click_says_nothing() -> None:
    items = shelf()
    net = some_net(items)
    scorer = worked_out(items, net)
    users = [1, 2, 3], []
    made = histories(*users)
    rows = np.tile(np.arange(10, ITEMS), (2, 1))
    before = scorer.scores(made, rows, rows > 0)
    scorer._known[5] = np.nan
    other = replace(made, rows=np.where(made.decay > 0, made.rows, 5))
    assert (scorer.scores(other, rows, rows > 0) == before).all()
    with torch.no_grad():  # nor do the places where nothing stands
        net.places[4:] += 5
    assert (scorer.scores(made, rows, rows > 0) == before).all()
    with torch.no_grad():
        net.places[3] += torch.randn(SMALL.dimension)
    moved = np.abs(scorer.scores(made, rows, rows > 0) - before).max(axis=1)
    assert moved[0] > 0.001
    assert moved[1] == 0


def test_order_and_age_of_clicks_count() -> None:
    items = shelf()
    scorer = worked_out(items, some_net(items))
    one, other, newest, longer = scores(scorer, [1, 2, 3], [2, 1, 3], [1, 3, 2], [0, 1, 2, 3])
    for different in (other, newest, longer):
        assert np.abs(one - different).max() > 0.001


def test_items_without_text_or_clicks_do_no_harm() -> None:
    items = shelf()
    unknown = items.mention("never described")
    nowhere = items.row("")
    scorer = worked_out(items, some_net(items))
    made = scores(scorer, [unknown], [nowhere, unknown, 3], [])
    assert np.isfinite(made).all()
    assert made.max(axis=1) == pytest.approx(np.ones(3)), "exp of the distance to the best"


def test_nothing_is_said_before_there_is_a_net_nor_of_what_is_no_candidate() -> None:
    items = shelf()
    scorer = SequenceScorer(items, SMALL)
    scorer.follow()
    assert not scores(scorer, [1, 2]).any()
    assert scorer.version == 0
    scorer = worked_out(items, some_net(items))
    rows = np.arange(ITEMS)[None]
    valid = rows < 3
    made = scorer.scores(histories([1]), rows, valid)
    assert not made[~valid].any()
    assert made[valid].max() == 1
    assert not scorer.scores(histories([1]), rows, rows < 0).any()


def test_a_reader_gives_what_the_net_gives() -> None:
    """Folded into two products and compiled loops, it is the same arithmetic."""
    items = shelf()
    net = some_net(items)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():  # norms and biases begin at 1 and 0, and would hide a mistake
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    scorer = worked_out(items, net)
    clicked = histories([], [3], [1, 2], list(range(WINDOW)), [5] * (WINDOW + 3))
    rows, there = np.tile(np.arange(ITEMS), (5, 1)), clicked.decay > 0
    with torch.inference_mode():
        x, b = net.embed(*inputs_of(items, np.arange(ITEMS), net))
        logits = (net(x[torch.from_numpy(clicked.rows)], torch.from_numpy(there)) @ x.T + b.T).numpy()
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert expected.min() < 0.5
    np.testing.assert_allclose(scorer.scores(clicked, rows, rows >= 0), expected, rtol=1e-4, atol=1e-6)


# -- training --------------------------------------------------------------------------------------------------------


def walk(length: int, seed: int = 1) -> list[tuple[int, list[int]]]:
    """Clicks with the clicks before them, newest first: after each item always the same other one, but for the first
    of six, which is drawn."""
    draw = np.random.default_rng(seed)
    follows = np.random.default_rng(99).permutation(ITEMS)
    made: list[tuple[int, list[int]]] = []
    while len(made) < length:
        history = [int(draw.integers(ITEMS))]
        for _ in range(5):
            made.append((int(follows[history[0]]), history.copy()))
            history.insert(0, made[-1][0])
    return made


def train(learner: SequenceLearner, clicks: Sequence[tuple[int, list[int]]]) -> SequenceLearner:
    for at, (target, history) in enumerate(clicks):
        learner.add(target, history)
        if at % QUICK.batch == QUICK.batch - 1:
            learner.step()
    return learner


def first_hits(learner: SequenceLearner) -> float:
    """How often the best item is the one that follows."""
    test = walk(400, seed=2)
    scorer = worked_out(learner.items, learner.snapshot(), learner.clicks)
    best = scores(scorer, *(history[::-1] for _, history in test)).argmax(axis=1)
    return float((best == [target for target, _ in test]).mean())


def test_it_learns_what_always_follows_what_far_beyond_popularity() -> None:
    learner = SequenceLearner(shelf(), SMALL, QUICK)
    assert first_hits(learner) < 0.15
    train(learner, walk(6_000))
    assert learner.clicks == learner.taken
    assert first_hits(learner) > 0.9, "the most popular of 40 would hit some .03"
    assert learner.loss < 1


@pytest.mark.parametrize("drawn", [False, True])
def test_a_draw_of_rivals_leads_to_the_odds_that_all_of_them_lead_to(
    drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if drawn:
        monkeypatch.setattr(sequence_learning, "_ALL", 0)
    odds = np.array([0.5, 0.2, 0.1, *[0.2 / (ITEMS - 3)] * (ITEMS - 3)])
    draw = np.random.default_rng(4)
    clicks = [(int(target), []) for target in draw.choice(ITEMS, 8_000, p=odds)]
    learner = train(SequenceLearner(shelf(), SMALL, QUICK), clicks)
    made = scores(worked_out(learner.items, learner.snapshot()), [])[0]
    assert (made / made.sum())[:3] == pytest.approx(odds[:3], abs=0.08)


def test_the_clicked_item_is_no_rival_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_learning, "_ALL", 0)
    learner = train(SequenceLearner(shelf(), SMALL, QUICK), [(0, [])] * 64)
    assert learner.steps == 1
    assert learner.loss == 0, "nobody else has been clicked"


def test_a_draw_of_rivals_learns_what_follows_what_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_learning, "_ALL", 0)
    assert first_hits(train(SequenceLearner(shelf(), SMALL, QUICK), walk(6_000))) > 0.85


def test_the_same_clicks_make_the_same_net() -> None:
    def trained(seed: int) -> SequenceLearner:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # whatever else draws in this process
            return train(SequenceLearner(shelf(), SMALL, QUICK), walk(400))

    one, other = trained(1), trained(2)
    for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_item_that_nobody_clicks_is_not_pushed_away() -> None:
    items = shelf()
    slots = [int(items.hashes[row]) % SMALL.slots for row in range(ITEMS)]
    clicks = [(target, history) for target, history in walk(1_500) if target != 7]
    learner = train(SequenceLearner(items, SMALL, QUICK), clicks)
    bias = learner.net.bias.weight.detach().numpy()[slots, 0]
    assert bias[7] == 0
    assert (bias != 0).sum() == ITEMS - 1


def test_every_click_is_taken_once_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = SequenceLearner(shelf(), SMALL, SequenceLearning(batch=30, replay=0, memory=100))
    taken: list[tuple[int, int]] = []

    def note(histories: np.ndarray, targets: np.ndarray) -> None:
        taken.extend(zip(targets.tolist(), histories[:, 0].tolist(), strict=True))

    monkeypatch.setattr(learner, "_train", note)
    clicks = [(n % ITEMS, (n * 7) % ITEMS) for n in range(350)]
    for start in range(0, 350, 70):
        for target, before in clicks[start : start + 70]:
            learner.add(target, [before])
        while learner.step():
            pass
    assert taken == clicks


def test_memory_is_bounded_whatever_is_clicked_and_what_falls_out_is_counted() -> None:
    items = shelf()
    learner = SequenceLearner(items, SMALL, SequenceLearning(memory=200))
    size = learner._histories.nbytes + learner._targets.nbytes
    for number in range(1_000):
        learner.add(number % ITEMS, list(range(30)))
    assert learner._histories.nbytes + learner._targets.nbytes == size == 200 * 84
    assert (learner.added, learner.waiting, learner.missed) == (1_000, 200, 800)
    assert learner._counts.sum() == 200
    while learner.step():
        pass
    assert (learner.waiting, learner.clicks, learner.missed) == (0, 200, 800)
    assert learner._histories.shape[1] == WINDOW


def test_who_has_no_row_of_his_own_is_not_learned() -> None:
    items = ItemStore(D, most_undescribed=0)
    nowhere = items.mention("flood")
    learner = SequenceLearner(items, SMALL, QUICK)
    learner.add(nowhere, [])
    assert learner.added == 0


def test_a_step_that_is_not_finite_moves_nothing() -> None:
    items = shelf()
    learner = train(SequenceLearner(items, SMALL, QUICK), walk(400))
    before = learner.snapshot()
    good = items.vectors.copy()
    items.vectors[:ITEMS] = np.nan
    train(learner, walk(QUICK.batch))
    assert learner.refused == 1
    for a, b in zip(before.parameters(), learner.net.parameters(), strict=True):
        assert torch.equal(a, b)
    items.vectors[:] = good
    train(learner, walk(QUICK.batch))
    assert learner.refused == 1
    assert np.isfinite(learner.loss)


def test_the_first_few_vectors_make_no_centre() -> None:
    items = shelf(1)
    learner = train(SequenceLearner(items, SMALL, QUICK), [(0, [])] * 64)
    assert float(learner.net.scale) < 10, "one vector lies at its own mean: nothing would be far enough from it"
    assert not learner.net.mean.any()


def test_a_catalogue_that_grows_moves_the_centre_and_not_what_is_known() -> None:
    items = shelf()
    learner = train(SequenceLearner(items, SMALL, QUICK), walk(3_000))
    before = scores(worked_out(items, learner.snapshot()), [1, 2, 3], [5], [])
    mean = learner.net.mean.clone()
    for row, vector in enumerate(unit(3 * ITEMS, seed=8) - 0.3, ITEMS):
        put(items, row, vector)
    learner._centre()
    assert not torch.equal(mean, learner.net.mean)
    after = scores(worked_out(items, learner.snapshot()), [1, 2, 3], [5], [])[:, :ITEMS]
    assert after / after.max(axis=1, keepdims=True) == pytest.approx(before, rel=2e-3, abs=1e-5)
    mean = learner.net.mean.clone()
    put(items, 4 * ITEMS, unit(1)[0])
    learner._centre()
    assert torch.equal(mean, learner.net.mean), "once for each doubling"


def test_after_a_restart_what_it_knew_before_still_competes() -> None:
    items = shelf()
    first = train(SequenceLearner(items, SMALL, QUICK), walk(4_000))
    learner = SequenceLearner(items, SMALL, QUICK)
    learner.take_over(first.snapshot(), first.clicks)
    assert first_hits(learner) == first_hits(first)
    for target, history in walk(64, seed=5):
        learner.add(target, history)
    learner.step()
    assert len(learner._distinct) == ITEMS
    assert learner.clicks == first.clicks + 64
    assert first_hits(train(learner, walk(640, seed=6))) > 0.85


# -- readers ---------------------------------------------------------------------------------------------------------


def test_a_reader_follows_vectors_that_change_and_items_that_come() -> None:
    items = shelf()
    net = some_net(items)
    scorer = worked_out(items, net)
    before = scores(scorer, [1, 2])
    put(items, 2, unit(1, seed=50)[0])
    put(items, ITEMS, unit(1, seed=51)[0])
    scorer.changed({2, ITEMS})
    scorer.follow()
    after = scores(scorer, [1, 2])
    assert np.abs(after[:, :ITEMS] - before).max() > 0.01
    assert after == pytest.approx(scores(worked_out(items, net), [1, 2]), abs=1e-6)


def test_a_net_comes_into_use_whole_and_with_what_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "_SLICE", 10)
    items = shelf()
    old, new = some_net(items, seed=3), some_net(items, seed=4)
    scorer = worked_out(items, old, 1)
    scorer.put(new, 2)
    for step in range(4):
        assert scorer.version == 1
        assert scores(scorer, [1, 2]) == pytest.approx(scores(worked_out(items, old), [1, 2]), abs=1e-6)
        if step == 2:
            put(items, 0, unit(1, seed=52)[0])  # of this one the new net has been asked already
            scorer.changed({0})
        scorer.follow()
    assert scorer.version == 2
    assert not scorer.pending
    scorer.follow()
    assert scores(scorer, [1, 2]) == pytest.approx(scores(worked_out(items, new), [1, 2]), abs=1e-6)


def test_nets_that_come_faster_than_they_are_worked_out_do_not_keep_one_another_from_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequence, "_SLICE", 10)
    items = shelf()
    net = some_net(items)
    scorer = SequenceScorer(items, SMALL)
    seen = []
    for version in range(1, 13):
        scorer.put(net, version)
        scorer.follow()
        seen.append(scorer.version)
    assert seen == [0, 0, 0, 1, 1, 1, 1, 5, 5, 5, 5, 9]
    while scorer.pending:
        scorer.follow()
    assert scorer.version == 12
