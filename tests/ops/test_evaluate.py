"""Evaluation: each click is asked for before it is learned, and counted right."""

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from rich.console import Console
from small_shop import DIMENSION, GROUPS, NOW, record

from models.breaks import KEPT
from models.events import Click
from models.items import ItemStore
from models.lessons import Question
from models.ranker import RankingConfig
from ops import evaluate, prequential
from ops.measures import MISS, Measures, standard_error
from ops.prequential import BLEND, CO, System, blocks, ordered
from producers.dataset import write


def catalogue(each: int = 20) -> ItemStore:
    items = ItemStore(DIMENSION)
    for group, name in enumerate(GROUPS):
        for i in range(each):
            items.put(f"{name}-{i}", record(group, group * 1000 + i))
    return items


def stream(n: int = 1500, seed: int = 3) -> list[Click]:
    """Users who keep to a group, and walk through it in the group's own order."""
    draw = np.random.default_rng(seed)
    at: dict[int, int] = {}
    clicks = []
    for i in range(n):
        user = int(draw.integers(n // 8))
        place = at[user] = at.get(user, int(draw.integers(20)) - 1) + 1
        name = GROUPS[user % len(GROUPS)]
        clicks.append(Click(user_id=f"u{user}", item_id=f"{name}-{place % 20}", ts=NOW + 1000 * i))
    return clicks


def run(clicks: list[Click], **kwargs: object) -> prequential.Evaluation:
    system = System(catalogue(), RankingConfig(mix=0.0))
    return prequential.run(system, "shop", clicks, **({"warm_up": 0.2, "ties": "shuffle", "seed": 7} | kwargs))  # type: ignore[arg-type]


def test_what_can_be_learned_is_learned_and_chance_is_beaten() -> None:
    outcome = run(stream())
    rates = {name: measures.hit_rate() for name, measures in outcome.methods.items()}
    assert rates[CO] > 0.8
    assert rates[BLEND] > 0.8
    assert max(rate for name, rate in rates.items() if name.startswith("popularity")) < 0.4
    assert all(len(measures.ranks) == outcome.tested for measures in outcome.methods.values())
    assert outcome.error(BLEND) > 0


def test_nothing_can_be_foreseen_where_clicks_are_drawn_at_random() -> None:
    """A click that leaked into its own list would show here."""
    draw = np.random.default_rng(5)
    ids = [f"{name}-{i}" for name in GROUPS for i in range(20)]
    clicks = [
        Click(user_id=f"u{draw.integers(300)}", item_id=str(draw.choice(ids)), ts=NOW + 1000 * i) for i in range(1500)
    ]
    outcome = run(clicks)
    for name, measures in outcome.methods.items():
        assert measures.hit_rate() < 10 / 120 + 4 * 0.009, name


def test_only_items_new_to_their_user_are_asked_for() -> None:
    clicks = [Click(user_id="u", item_id=f"tea-{i % 4}", ts=NOW + i) for i in range(400)]
    assert run(clicks, warm_up=0.0).tested == 4


def test_where_items_may_come_again_they_are_asked_for_and_what_a_user_chose_himself_is_found() -> None:
    draw = np.random.default_rng(1)
    own = {user: draw.choice(120, 2, replace=False) for user in range(30)}
    ids = [f"{name}-{i}" for name in GROUPS for i in range(20)]
    clicks = [
        Click(user_id=f"u{i % 30}", item_id=ids[draw.choice(own[i % 30])], ts=NOW + 60_000 * i) for i in range(900)
    ]
    system = System(catalogue(), RankingConfig(mix=0.0, repeat_after_s={"click": 30}))
    outcome = prequential.run(system, "shop", clicks, warm_up=0.2, ties="shuffle", seed=7, alone=False)
    assert outcome.tested > 600
    assert outcome.methods[BLEND].hit_rate() > 0.95


def test_two_runs_are_equal_and_the_seed_orders_ties() -> None:
    clicks = [Click(user_id=c.user_id, item_id=c.item_id, ts=c.ts // 20_000 * 20_000) for c in stream(600)]
    first, again, other = (run(clicks, seed=seed) for seed in (1, 1, 2))
    assert first.methods[BLEND].ranks == again.methods[BLEND].ranks
    assert first.methods[BLEND].ranks != other.methods[BLEND].ranks


def test_shuffled_clicks_of_one_moment_are_learned_from_one_after_another() -> None:
    clicks = [Click(user_id="ann", item_id=f"tea-{item}", ts=NOW) for item in range(3)]

    def known(ties: Literal["shuffle", "keep"]) -> list[int]:
        system, lengths = System(catalogue(), RankingConfig(mix=0.0)), []
        pose = system.teacher.question

        def noted(*args: Any) -> Question | None:
            question = pose(*args)
            lengths.append(-1 if question is None else len(question.profile.rows))
            return question

        system.teacher.question = noted  # type: ignore[method-assign]
        system.learn([click for group in ordered(clicks, ties, 7) for click in group], 0)
        return lengths

    assert known("shuffle") == [0, 1, 2]
    assert known("keep") == [0, 0, 0]


def test_a_break_reaches_the_tables_with_the_weights() -> None:
    clicks = [
        Click(user_id=user, item_id=f"tea-{item}", ts=NOW + 1_000 * i)
        for i, (user, item) in enumerate((("ann", 0), ("bob", 1), ("ann", 2), ("ann", 3), ("bob", 4), ("ann", 5)))
    ]
    system = System(catalogue(), RankingConfig(mix=0.0), weights_age=1)
    system.learn(clicks[:2], 0)
    system.ranker.breaks.add([clicks[2].ts])
    system.learn(clicks[2:3], 2)
    assert system.neighbours.breaks.times == (), "the weights are a block old"
    system.learn(clicks[3:4], 3)
    system.learn(clicks[4:], 4)
    assert system.linear is not None
    assert system.neighbours.breaks.times == system.linear.breaks.times == (clicks[2].ts,)
    gram, places = system.linear.gram, system.linear.rows[:6].tolist()
    at = [places.index(system.items.row(f"tea-{item}")) for item in range(6)]

    def together(one: int, other: int) -> float:
        return float(gram[at[one], at[other]])

    assert together(2, 5) == together(3, 5) == 1, "both after it"
    assert together(0, 2) == together(0, 5) == together(1, 4) == 0, "one before it and one after, told late or not"
    assert together(0, 0) == pytest.approx(KEPT), "before it"
    assert together(2, 2) == pytest.approx(1), "counted before it was told"


def test_what_is_clicked_again_counts_once_in_the_linear_part_and_once_more_after_a_break() -> None:
    system = System(catalogue(), RankingConfig(mix=0.0))
    assert system.linear is not None
    items = [f"tea-{item}" for item in (0, 1, 0, 0, 2, 0)]
    clicks = [Click(user_id="ann", item_id=item, ts=NOW + 1_000 * i) for i, item in enumerate(items)]
    system.learn(clicks[:3], 0)
    place = system.linear.rows[:3].tolist().index(system.items.row("tea-0"))
    assert system.linear.gram[place, place] == 1
    system.forget([clicks[3].ts])
    system.learn(clicks[3:], 3)
    assert system.linear.gram[place, place] == pytest.approx(1 + KEPT)
    other = system.linear.rows[:3].tolist().index(system.items.row("tea-2"))
    assert system.linear.gram[place, other] == 1


def test_clicks_of_one_moment_do_not_know_one_another_when_ties_are_kept() -> None:
    clicks = stream(600)
    basket = [Click(user_id="u0", item_id=f"tea-{i}", ts=clicks[-1].ts + 1) for i in range(5)]
    groups = ordered(clicks + basket, "keep", 7)
    assert groups[-1] == basket
    system = System(catalogue(), RankingConfig(mix=0.0))
    profiles, _ = prequential.asked(system, [basket])
    assert [len(profile.rows) for profile in profiles] == [0] * 5
    profiles, _ = prequential.asked(system, [[click] for click in basket])
    assert [len(profile.rows) for profile in profiles] == [0, 1, 2, 3, 4]


def test_a_break_that_is_found_late_leaves_what_came_after_it() -> None:
    clicks, system = stream(64), System(catalogue(), RankingConfig(mix=0.0))
    system.learn(clicks, 0)
    system.forget([clicks[32].ts])
    row, linear = system.items.row, system.linear
    effective = np.zeros(len(system.items))
    for i, click in enumerate(clicks):
        effective[row(click.item_id)] += KEPT if i < 32 else 1
    np.testing.assert_allclose(system.neighbours.effective[: len(effective)], effective, rtol=1e-5)
    assert linear is not None
    assert linear.clicks == pytest.approx(effective.sum(), rel=1e-5)


def test_a_block_never_cuts_a_group() -> None:
    clicks = [Click(user_id="u", item_id="tea-1", ts=NOW + i // 50) for i in range(500)]
    for block in blocks(ordered(clicks, "keep", 7)):
        assert sum(map(len, block)) == 100
    assert sum(len(group) for block in blocks(ordered(clicks, "shuffle", 7)) for group in block) == 500


def test_measures_are_what_their_names_say() -> None:
    measures = Measures(ranks=[0, 1, 9, 10, MISS])
    assert measures.hit_rate() == pytest.approx(3 / 5)
    assert measures.ndcg() == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 5)
    assert measures.reciprocal_rank() == pytest.approx((1 + 1 / 2 + 1 / 10) / 5)


def test_the_standard_error_knows_that_a_users_clicks_go_together() -> None:
    hits = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float64)
    alone = standard_error(hits, np.arange(8))
    assert alone == pytest.approx(np.sqrt(0.25 / 8))
    assert standard_error(hits, np.repeat([0, 1], 4)) == pytest.approx(2 * alone)


def test_the_table_names_every_method_and_the_difference_to_its_peers() -> None:
    outcome = run(stream(400))
    console = Console(width=200, record=True, file=io.StringIO())
    evaluate.show([outcome], console)
    text = console.export_text()
    for name in outcome.methods:
        assert name in text
    assert "blend − co alone" in text
    assert "blend − popularity" in text


@pytest.mark.slow
def test_a_data_set_is_evaluated_with_the_real_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    items = [{"item_id": f"{n}-{i}", "title": f"{n} {i}", "category": n} for n in GROUPS for i in range(20)]
    clicks = [{"user_id": c.user_id, "item_id": c.item_id, "ts": c.ts, "event": c.event} for c in stream(300)]
    data = write(tmp_path / "shop", items, clicks)
    plain = evaluate.evaluate(str(data.folder))
    encoded = evaluate.evaluate(str(data.folder), encode_users=True)
    assert plain.tested == encoded.tested > 0
    assert plain.methods[BLEND].ranks != encoded.methods[BLEND].ranks


def test_the_linear_part_counts_each_user_once_an_item_as_the_service_does() -> None:
    system = System(catalogue(), RankingConfig(mix=0.0))
    wanted = ["tea-1", "tea-2", "tea-1", "tea-3", "tea-2"]
    system.learn([Click(user_id="ann", item_id=item, ts=NOW, event="click") for item in wanted], 0)
    system.learn([Click(user_id="ann", item_id="tea-1", ts=NOW), Click(user_id="bob", item_id="tea-1", ts=NOW)], 5)
    assert system.linear is not None
    gram = system.linear.gram
    assert system.linear.clicks == gram.diagonal().sum() == 4
    assert gram.sum() == 4 + 3 * 2
