"""The ranker that learns online: its gradient, its sums, and which clicks it learns from."""

import numpy as np
import pytest

from models.breaks import KEPT
from models.candidates import Candidates
from models.experts import EXPERTS, LEARNED, Rankings
from models.features import FEATURES, SCORERS, part_of
from models.histories import BUCKETS
from models.lessons import Teacher
from models.policy import Blocked, Policy
from models.profile import Profile
from models.ranker import RankingConfig, Scored, score
from models.ranker_learning import DELAY, SETTLED, LearningConfig, Lesson, RankerLearner, teach
from tests.small_shop import NOW, Shop, record

PRIOR = RankingConfig().prior
EVERY = LearningConfig(sample=1)


def made_up(b: int = 12, m: int = 30, seed: int = 0) -> tuple[Scored, list[int]]:
    """Candidates with random features; the item that is clicked is strong in ``text.ratio``."""
    draw = np.random.default_rng(seed)
    features = draw.random((b, len(FEATURES), m), dtype=np.float32)
    valid = np.arange(m) < draw.integers(m // 2, m, b)[:, None]
    rows = np.broadcast_to(np.arange(100, 100 + m), (b, m)) * valid
    buckets = draw.integers(0, len(BUCKETS), b)
    nothing = np.zeros((len(SCORERS), b, m), np.float32)
    text = np.where(valid, features[:, FEATURES.index("text.ratio")], -1)
    scores = score(PRIOR[buckets], features, valid)
    scored = Scored(Candidates(rows, valid, nothing), features, buckets, scores)
    return scored, (100 + text.argmax(axis=1)).tolist()


def likelihood(weights: np.ndarray, scored: Scored, targets: list[int]) -> float:
    """Σ log p of the clicked items."""
    scores = np.einsum("bf,bfm->bm", weights[scored.buckets], scored.features.astype(np.float64))
    scores[~scored.candidates.valid] = -np.inf
    places = np.array(targets) - 100
    top = scores.max(axis=1)
    total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return float((scores[np.arange(len(places)), places] - total).sum())


def test_the_gradient_is_that_of_the_likelihood() -> None:
    scored, targets = made_up()
    lesson = teach(scored, targets, PRIOR, Rankings(PRIOR))
    base = PRIOR.astype(np.float64)
    for bucket, feature in ((0, 0), (2, 5), (5, len(FEATURES) - 1), (3, 9)):
        up, down = base.copy(), base.copy()
        up[bucket, feature] += 1e-4
        down[bucket, feature] -= 1e-4
        slope = (likelihood(up, scored, targets) - likelihood(down, scored, targets)) / 2e-4
        assert lesson.gradients[bucket, feature] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_what_is_clicked_comes_to_stand_in_front() -> None:
    ranker = RankerLearner(PRIOR, EVERY)
    for seed in range(60):
        ranker.learn(teach(*made_up(seed=seed), ranker.learned(), ranker.rankings))
    scored, targets = made_up(seed=1_000)
    assert likelihood(ranker.learned(), scored, targets) > likelihood(PRIOR, scored, targets) + 5
    learned = ranker.learned().mean(axis=0) - PRIOR.mean(axis=0)
    assert learned.argmax() == FEATURES.index("text.ratio")


def test_a_part_that_is_turned_off_weighs_nothing_and_learns_nothing() -> None:
    ranker = RankerLearner(PRIOR, LearningConfig(sample=1, without=frozenset({"text"})))
    ranker.learn(teach(*made_up(), ranker.learned(), ranker.rankings))
    text = np.array([part_of(name) == "text" for name in FEATURES])
    assert (ranker.learned()[:, text] == 0).all()
    assert (ranker.shared[text] == 0).all()
    assert (ranker.learned()[:, ~text] != PRIOR[:, ~text]).any(axis=0).all()


def test_the_layers_weigh_nothing_until_they_are_asked_for() -> None:
    layer = np.array([part_of(name) == "layer" for name in FEATURES])
    off, on = RankingConfig(), RankingConfig(without=frozenset())
    assert (off.prior[:, layer] == 0).all()
    assert (on.prior[:, layer] > 0).any()
    assert (off.prior[:, ~layer] == on.prior[:, ~layer]).all()
    ranker = RankerLearner(off.prior, EVERY)
    ranker.learn(teach(*made_up(), ranker.learned(), ranker.rankings))
    assert (ranker.learned()[:, layer] == 0).all()


def test_lessons_are_sums_whatever_the_batches() -> None:
    scored, targets = made_up(b=16)
    whole = teach(scored, targets, PRIOR, Rankings(PRIOR))
    sum_of_parts = Lesson.empty()
    for part in (slice(0, 3), slice(3, 16)):
        c = scored.candidates
        some = Candidates(c.rows[part], c.valid[part], c.said[:, part])
        one = Scored(some, scored.features[part], scored.buckets[part], scored.scores[part])
        sum_of_parts.add(teach(one, targets[part], PRIOR, Rankings(PRIOR)))
    for name in ("clicks", "gradients", "squares", "hits"):
        np.testing.assert_allclose(getattr(sum_of_parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_an_item_that_is_no_candidate_teaches_nothing_and_is_nobodys_hit() -> None:
    scored, _ = made_up(b=4)
    lesson = teach(scored, [9_999] * 4, PRIOR, Rankings(PRIOR))
    assert lesson.clicks.sum() == 4
    assert not lesson.gradients.any()
    assert not lesson.hits.any()


def test_the_same_lessons_give_the_same_weights() -> None:
    def run() -> np.ndarray:
        ranker = RankerLearner(PRIOR, EVERY)
        for seed in range(5):
            ranker.learn(teach(*made_up(seed=seed), ranker.learned(), ranker.rankings))
        return ranker.serving()

    assert (run() == run()).all()


def test_a_lesson_that_comes_late_moves_the_weights_less() -> None:
    lesson = teach(*made_up(), PRIOR, Rankings(PRIOR))
    moved, half = [], DELAY + 640 // SETTLED
    for version in (None, 640, 640 - half, 640 - 10 * half, 9_999):
        ranker = RankerLearner(PRIOR, EVERY)
        ranker.version = 640
        lesson.version = version
        ranker.learn(lesson)
        moved.append(np.abs(ranker.learned() - PRIOR).max())
        assert ranker.version == 640 + lesson.clicks.sum()
    assert moved == pytest.approx([moved[0], moved[0], moved[0] / 2, moved[0] / 11, moved[0]], rel=1e-4)


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    shop.populate()
    return shop


def test_a_question_is_the_user_as_he_was(shop: Shop) -> None:
    teacher = Teacher(shop.recommender, EVERY)
    profile = shop.click("ann", "tea-1", "tea-2")
    row, later = shop.items.row("tea-3"), shop.items.row("tea-4")
    question = teacher.question(profile, row, 0, 7, NOW + 1)
    assert question is not None
    shop.click("ann", "tea-3", "tea-4", ts=NOW + 1)
    asked = question.profile
    assert (asked.clicks, len(asked.rows)) == (2, 2)
    found = shop.recommender.score([asked], NOW).candidates
    assert {row, later} <= set(found.rows[found.valid].tolist())  # what he clicked next is its strongest rival
    lesson = teacher.lesson([question], NOW)
    assert lesson.clicks[BUCKETS.index(2)] == 1
    assert lesson.gradients[BUCKETS.index(2)].any()


def test_clicks_of_one_moment_are_asked_of_what_was_known_before_it(shop: Shop) -> None:
    teacher = Teacher(shop.recommender, EVERY)
    before = teacher.question(shop.click("ann", "tea-1", "tea-2", ts=NOW - 5), shop.items.row("tea-3"), 0, 7, NOW)
    profile = shop.click("ann", "tea-1", "tea-4", "tea-5", ts=NOW)
    after = teacher.question(profile, shop.items.row("tea-3"), 0, 8, NOW)
    assert before is not None
    assert after is not None
    asked, same = after.profile, before.profile
    assert (asked.rows, asked.clicks, set(asked.seen)) == (same.rows, same.clicks, set(same.seen))
    assert asked.vector is None  # worked out from these clicks with the lesson
    later = teacher.question(profile, shop.items.row("tea-3"), 0, 9, NOW + 1)
    assert later is not None
    assert later.profile.rows == profile.rows
    assert later.profile.vector is profile.vector
    found = shop.recommender.score([asked], NOW).candidates
    teacher.lesson([after], NOW)
    assert shop.items.row("tea-4") in found.rows[found.valid]  # of the same basket, and so one of its rivals


def test_what_he_chose_himself_is_counted_up_to_the_moment() -> None:
    shop = Shop(config=RankingConfig(repeat_after_s={"purchase": 0}))
    shop.populate()
    teacher, tea = Teacher(shop.recommender, EVERY), shop.items.row("tea-1")
    shop.click("ann", "tea-1", "rope-1", "tea-1", ts=NOW - 5_000)
    profile = shop.click("ann", "tea-1", "rope-1", "rope-2", "rope-2", ts=NOW)
    question = teacher.question(profile, tea, 0, 7, NOW)
    assert question is not None
    shop.click("ann", "tea-1", ts=NOW + 1)
    hashes = {name: int(shop.items.hashes[shop.items.row(name)]) for name in ("tea-1", "rope-1", "rope-2")}
    asked = question.profile
    assert [asked.often.get(hashes[name], 1) for name in ("tea-1", "rope-1")] == [2, 1]
    assert hashes["rope-2"] not in asked.seen
    scored = shop.recommender.score([asked], NOW)
    own = scored.candidates.said[SCORERS.index("own"), 0]
    assert dict(zip(scored.candidates.rows[0].tolist(), own.tolist(), strict=True))[tea] == 2


def test_where_items_come_again_the_ranker_learns_what_his_own_are_worth() -> None:
    """Of users who buy the same again and again, and of users who never do."""
    learned = {}
    for faithful in (True, False):
        shop = Shop(config=RankingConfig(repeat_after_s={"purchase": 0}))
        shop.populate()
        ranker = RankerLearner(shop.recommender.learned.copy(), EVERY)
        teacher, draw = Teacher(shop.recommender, EVERY), np.random.default_rng(0)
        for step in range(300):
            user, now = f"u{step % 20}", NOW + 1_000 * (step + 1)
            profile = shop.profiles[user]
            met = {shop.items.hashes[row]: row for row in range(len(shop.items))}
            own = [met[item] for item in profile.seen]
            others = sorted(set(range(len(shop.items))) - set(own))
            row = int(draw.choice(own[:3] if faithful else others))
            question = teacher.question(profile, row, 0, step, now)
            assert question is not None
            ranker.learn(teacher.lesson([question], now))
            shop.click(user, shop.items.ids[row], ts=now)
        at = [i for i, feature in enumerate(FEATURES) if part_of(feature) == "own"]
        bucket = np.searchsorted(BUCKETS, 10, side="right") - 1
        learned[faithful] = (ranker.learned() - shop.recommender.config.prior)[bucket, at].sum()
    assert learned[True] > 0.3
    assert learned[False] < -0.3


def test_of_whom_nothing_was_known_before_the_moment_nothing_is(shop: Shop) -> None:
    profile = shop.click("ann", "tea-1", "tea-2")
    question = Teacher(shop.recommender, EVERY).question(profile, shop.items.row("tea-3"), 0, 7, NOW)
    assert question is not None
    assert (question.profile.rows, question.profile.clicks, question.profile.seen) == ([], 0, {})


def test_what_could_not_be_in_his_list_is_no_question(shop: Shop) -> None:
    teacher = Teacher(shop.recommender, EVERY)
    profile = shop.click("ann", "tea-1", "tea-2")
    assert teacher.question(profile, shop.items.row("tea-1"), 0, 7, NOW) is None
    assert teacher.question(profile, shop.items.row("never encoded"), 0, 7, NOW) is None
    repeating = Shop(config=RankingConfig(repeat_after_s={"purchase": 60}))
    ann = repeating.click("ann", "tea-1")
    again = Teacher(repeating.recommender, EVERY)
    assert again.question(ann, repeating.items.row("tea-1"), 0, 7, NOW) is None
    assert again.question(ann, repeating.items.row("tea-1"), 0, 7, NOW + 61_000) is not None


def test_what_is_not_on_offer_is_no_question_and_no_miss_of_those_that_serve(shop: Shop) -> None:
    teacher, row = Teacher(shop.recommender, EVERY), shop.items.row("tea-3")
    profile = shop.click("ann", "tea-1")
    assert teacher.question(profile, row, 0, 7, NOW + 1) is not None
    shop.recommender.apply(Policy(blocked=Blocked(blocked_items=frozenset({"tea-3"}))))
    assert teacher.question(profile, row, 0, 7, NOW + 1) is None
    assert teacher.question(profile, shop.items.row("tea-4"), 0, 7, NOW + 1) is not None
    shop.items.expires_ms[shop.items.row("tea-4")] = NOW
    assert teacher.question(profile, shop.items.row("tea-4"), 0, 7, NOW + 1) is None
    assert teacher.question(profile, shop.items.mention("never described"), 0, 7, NOW + 1) is None


def test_an_item_that_came_after_the_last_list_is_a_question_unless_a_rule_blocks_it(shop: Shop) -> None:
    teacher, profile = Teacher(shop.recommender, EVERY), shop.click("ann", "tea-1", ts=NOW - 1)
    shop.recommender.apply(Policy(blocked=Blocked(blocked_labels=frozenset({"caffeine"}))))
    shop.items.put("tea-new", record(0, 777))
    shop.items.put("tea-strong", record(0, 778, safety=("caffeine",)))
    question = teacher.question(profile, shop.items.row("tea-new"), 0, 7, NOW)
    assert question is not None
    assert teacher.question(profile, shop.items.row("tea-strong"), 0, 8, NOW) is None
    shop.recommender.follow()  # as the list does that the click is followed by
    assert teacher.lesson([question], NOW).clicks.sum() == 1


def test_the_sample_is_a_share_and_the_same_each_time(shop: Shop) -> None:
    profile, row = Profile("ann"), shop.items.row("tea-1")

    def asked(share: float) -> list[bool]:
        teacher = Teacher(shop.recommender, LearningConfig(sample=share, young=0))
        return [teacher.question(profile, row, p, o, NOW) is not None for p in range(6) for o in range(1_000)]

    assert asked(0.25) == asked(0.25)
    assert np.mean(asked(0.25)) == pytest.approx(0.25, abs=0.03)
    assert np.mean(asked(0.25)[:1_000]) == pytest.approx(0.25, abs=0.03)
    assert not any(asked(0))
    assert all(asked(1))


def test_while_the_weights_are_young_every_click_is_learned_from(shop: Shop) -> None:
    profile, row = Profile("ann"), shop.items.row("tea-1")

    def asked(share: float) -> int:
        teacher = Teacher(shop.recommender, LearningConfig(sample=share, young=50))
        return sum(teacher.question(profile, row, 0, offset, NOW) is not None for offset in range(1_000))

    shop.recommender.weights_version = 49
    assert (asked(0.25), asked(0)) == (1_000, 0)
    shop.recommender.weights_version = 50
    assert 0 < asked(0.25) < 300


def test_after_a_break_of_the_stream_every_click_is_learned_from_for_a_while(shop: Shop) -> None:
    profile, row = Profile("ann"), shop.items.row("tea-1")
    ranker = RankerLearner(PRIOR, LearningConfig(young=50))
    for number, rate in enumerate((0.5,) * 40 + (0.0,) * 10):
        lesson = Lesson.empty()
        lesson.clicks[2], lesson.hits[2, 0], lesson.squares[2], lesson.clicked_ms = 20, 20 * rate, 1, 1_000 + number
        if broke := ranker.learn(lesson):
            break
        assert not ranker.young
    assert broke
    assert ranker.young == ranker.version + 50
    assert ranker.breaks.times == (1_040,), "when it began"
    np.testing.assert_allclose(ranker.shared_squares, KEPT * (number + 1))  # its steps are as long as at a start
    np.testing.assert_allclose(ranker.own_squares[2], KEPT * (number + 1))

    def asked(share: float) -> int:
        teacher = Teacher(shop.recommender, LearningConfig(sample=share, young=50))
        return sum(teacher.question(profile, row, 0, offset, NOW) is not None for offset in range(1_000))

    shop.recommender.young = ranker.young
    shop.recommender.weights_version = ranker.young - 1
    assert (asked(0.25), asked(0)) == (1_000, 0)
    shop.recommender.weights_version = ranker.young
    assert 0 < asked(0.25) < 300


def test_whoever_serves_a_reason_adds_up(shop: Shop) -> None:
    ranker = RankerLearner(PRIOR)
    profiles = [shop.click(f"u{i}") for i in range(4)] + [Profile("nobody")]
    for expert in range(len(EXPERTS)):
        ranker.choice.serving[:] = expert
        shop.recommender.weights = ranker.serving()
        for ranked in shop.recommender.recommend(profiles, NOW):
            assert ranked.rows
            for total, parts in zip(ranked.scores, ranked.parts, strict=True):
                assert sum(parts) == pytest.approx(total, abs=2e-4)
    assert EXPERTS[0] == LEARNED
