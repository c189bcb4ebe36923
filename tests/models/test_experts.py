"""The guard: every way to rank is followed, and the one that hits most serves."""

import numpy as np
import pytest

from models.experts import EXPERTS, POOLED, ExpertChoice, Rankings, hits
from models.features import FEATURES
from models.histories import BUCKETS
from models.ranker import RankingConfig

PRIOR = RankingConfig().prior


def test_an_expert_is_counted_by_the_ranking_that_it_would_serve() -> None:
    draw = np.random.default_rng(0)
    features = draw.random((6, len(FEATURES), 40), dtype=np.float32)
    buckets = np.arange(6)
    rankings, learned = Rankings(PRIOR), draw.random(PRIOR.shape, dtype=np.float32)
    scores = rankings.scores(learned, features, buckets)
    for expert in range(len(EXPERTS)):
        served = rankings.weights(learned, np.full(len(BUCKETS), expert))
        np.testing.assert_allclose(
            scores[:, expert], np.einsum("bf,bfm->bm", served[buckets], features), rtol=1e-4, atol=1e-4
        )


def test_a_hit_is_a_place_among_ten() -> None:
    scores = np.arange(20, dtype=np.float32)[None, None, :].repeat(2, axis=0)
    valid = np.ones((2, 20), np.bool_)
    assert hits(scores, valid, np.array([10, 9]))[:, 0].tolist() == [True, False]
    valid[1, -1] = False  # a place without a candidate stands before nobody
    assert hits(scores, valid, np.array([10, 9]))[:, 0].tolist() == [True, True]


def stream(rates: list[list[float]], each: int, seed: int) -> np.ndarray:
    """Hits of two experts, in segments with rates of their own; the others never hit."""
    draw = np.random.default_rng(seed)
    made = np.zeros((len(rates) * each, len(EXPERTS)))
    for segment, (first, second) in enumerate(rates):
        rows = slice(segment * each, (segment + 1) * each)
        made[rows, 2] = draw.random(each) < first
        made[rows, 3] = draw.random(each) < second
    return made


def served(outcome: np.ndarray, half_life: float, batch: int = 20) -> float:
    """Hits of whoever served each click, all in one bucket."""
    choice, total = ExpertChoice(half_life, 1), 0.0
    for start in range(0, len(outcome), batch):
        block = outcome[start : start + batch]
        total += block[:, choice.serving[3]].sum()
        clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
        clicks[3], hit[3] = len(block), block.sum(axis=0)
        choice.learn(clicks, hit)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_regret_against_the_best_expert_is_small(seed: int) -> None:
    outcome = stream([[0.25, 0.15]], 8_000, seed)
    assert served(outcome, 2_000) >= outcome.sum(axis=0).max() - 0.005 * len(outcome)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_changes_and_changes_back_is_followed(seed: int) -> None:
    outcome = stream([[0.3, 0.05], [0.05, 0.3], [0.3, 0.05]], 6_000, seed)
    total = served(outcome, 500)
    assert total > 1.25 * outcome.sum(axis=0).max()  # better than any one expert over the whole
    best_of_each = sum(outcome[i * 6_000 : (i + 1) * 6_000].sum(axis=0).max() for i in range(3))
    assert total >= 0.9 * best_of_each


def test_buckets_choose_for_themselves_and_the_learned_ranker_serves_first() -> None:
    choice = ExpertChoice(caution=0)
    assert not choice.serving.any()
    clicks, hit = np.full(len(BUCKETS), 10.0), np.zeros((len(BUCKETS), len(EXPERTS)))
    hit[:, 3], hit[1, 3], hit[1, 5] = 1, 0, 6
    choice.learn(clicks, hit)
    assert choice.serving.tolist() == [5, 5, 5, 5, 5, 5]  # six hits there count for more than one here
    assert choice.rates()[1, 5] == pytest.approx(0.6)
    hit[:, 3], hit[1, 3], hit[1, 5] = 200, 0, 200
    choice.learn(np.full(len(BUCKETS), 400.0), hit)
    assert choice.serving.tolist() == [3, 5, 3, 3, 3, 3]


def test_a_bucket_without_clicks_follows_the_others_until_its_own_say_more() -> None:
    choice = ExpertChoice(half_life=1e9)
    clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
    clicks[1], hit[1, 5] = 10_000, 2_000
    choice.learn(clicks, hit)
    assert choice.serving.tolist() == [5] * len(BUCKETS)
    clicks[:], hit[:] = 0, 0
    clicks[0], hit[0, 4] = 40, POOLED * 0.2 + 2  # the others count as 100 clicks with 20 hits
    choice.learn(clicks, hit)
    assert choice.serving[0] == 4
    assert choice.serving[1] == 5


def test_a_cautious_choice_waits_for_more_than_chance() -> None:
    choice = ExpertChoice(caution=2)
    clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
    clicks[0], hit[0, 1] = 10, 3
    choice.learn(clicks, hit)
    assert choice.serving[0] == 0
    choice.learn(clicks, hit)
    assert choice.serving[0] == 1


OTHER = 9


def learn(choice: ExpertChoice, outcome: np.ndarray, batch: int = 16) -> tuple[list[int], list[bool]]:
    """Count hits of the learned ranker and of another: who served each batch, and before which the stream broke."""
    served, broke = [], []
    for start in range(0, len(outcome), batch):
        clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
        block = outcome[start : start + batch]
        clicks[2], hit[2, 0], hit[2, OTHER] = len(block), *block.sum(axis=0)
        served.append(int(choice.serving[2]))
        broke.append(choice.learn(clicks, hit))
    return served, broke


def drawn(seed: int, *rates: tuple[float, float], each: int = 4_000) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.random((each, 2)) < rate for rate in rates])


@pytest.mark.parametrize("seed", range(3))
def test_when_the_stream_breaks_who_serves_the_new_one_does_so_soon(seed: int) -> None:
    served, broke = learn(ExpertChoice(), drawn(seed, (0.2, 0.06), (0.02, 0.06)))
    first, later = np.array(served[:250]), np.array(served[250:])
    assert not first.any()
    assert sum(broke[:250]) == 0
    assert sum(broke[250:300]) == 1  # 800 clicks
    assert (later[60:] == OTHER).mean() > 0.7


@pytest.mark.parametrize("seed", range(8))
def test_a_break_is_told_with_the_time_at_which_it_began(seed: int) -> None:
    choice = ExpertChoice()
    outcome = drawn(seed, (0.2, 0.06), (0.02, 0.06))
    for start in range(0, len(outcome), 16):
        clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
        clicks[2], hit[2, 0] = 16, outcome[start : start + 16, 0].sum()
        if choice.learn(clicks, hit, 1_000_000 + start):
            break
    assert 3_900 <= choice.steady - 1_000_000 <= 4_064
    assert choice.slump == 0
    choice.learn(clicks, hit, 1_000_000 + start + 16)
    assert choice.steady == 1_000_000 + start + 16, "what comes after it is measured anew"


def test_a_slump_begins_with_the_first_batch_that_hits_too_little_and_is_over_with_one_that_hits() -> None:
    choice, moments = ExpertChoice(), []
    for moment, found in enumerate((5, 5, 0, 1, 5, 5, 5, 5, 0), 1):
        clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
        clicks[2], hit[2, 0] = 10, found
        choice.learn(clicks, hit, moment)
        moments.append((choice.steady, choice.slump > 0))
    assert moments == [
        (1, False),
        (2, False),
        (3, True),
        (3, True),
        (3, True),
        (3, False),
        (7, False),
        (8, False),
        (9, True),
    ]


def test_it_is_who_serves_whose_hits_tell_of_a_break() -> None:
    assert not any(learn(ExpertChoice(), drawn(1, (0.1, 0.3), (0.0, 0.3)))[1]), "the learned ranker does not"
    served, broke = learn(ExpertChoice(), drawn(1, (0.05, 0.3), (0.05, 0.08)))
    assert served[250] == OTHER
    assert broke.index(True) > 250


def test_after_a_break_the_learned_ranker_is_back_when_it_hits_again() -> None:
    served, _ = learn(ExpertChoice(), drawn(1, (0.2, 0.06), (0.02, 0.06), (0.1, 0.06)))
    assert served[490] == OTHER
    assert served[-1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_swings_does_not_break(seed: int) -> None:
    rates = [(0.2 + 0.04 * np.sin(i), 0.06) for i in range(20)]
    assert not any(learn(ExpertChoice(), drawn(seed, *rates, each=1_000))[1])


def test_where_hardly_anything_is_hit_nothing_breaks() -> None:
    assert not any(learn(ExpertChoice(), drawn(0, (0.01, 0.0), (0.0, 0.0)))[1])


def test_a_challenger_must_lead_the_learned_ranker_by_a_standard_error_of_what_that_hit() -> None:
    def serving(learned: int, other: int) -> int:
        choice = ExpertChoice(half_life=1e9)
        clicks, hit = np.zeros(len(BUCKETS)), np.zeros((len(BUCKETS), len(EXPERTS)))
        clicks[2], hit[2, 0], hit[2, OTHER] = 1_000, learned, other
        choice.learn(clicks, hit)
        return int(choice.serving[2])

    assert serving(100, 109) == 0
    assert serving(100, 112) == OTHER
