"""One contract for all peers: what is measured as a recommender behaves as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_shop import DIMENSION, GROUPS, record
from threadpoolctl import threadpool_limits

from models.errors import ConfigurationError, StrataError
from models.items import ItemStore
from ops.peers.ease import EASE
from ops.peers.ials import IALS
from ops.peers.item_knn import ItemKNN
from ops.peers.own import OwnItems
from ops.peers.popularity import Popularity
from ops.peers.protocol import HISTORY, Clicks, Peer, Questions, top
from ops.peers.river_mf import RiverMF
from ops.peers.sasrec import SASRec
from ops.peers.strata import SCORERS, Alone, Strata

EACH = 10
ITEMS = EACH * len(GROUPS)
EVERY = 500


def store() -> ItemStore:
    items = ItemStore(DIMENSION)
    for group, name in enumerate(GROUPS):
        for i in range(EACH):
            items.put(f"{name}-{i}", record(group, group * 1000 + i))
    return items


PEERS: dict[str, Callable[[], Peer]] = {
    "popularity": lambda: Popularity(ITEMS, half_life=300),
    "item_knn": lambda: ItemKNN(ITEMS, every=EVERY),
    "ease": lambda: EASE(ITEMS, l2=20, every=EVERY),
    "ials": lambda: IALS(ITEMS, factors=8, every=EVERY),
    "sasrec": lambda: SASRec(ITEMS, dimension=16, steps=30, rate=1e-2, every=EVERY),
    "river_mf": lambda: RiverMF(ITEMS, rate=0.1),
    "own_items": lambda: OwnItems(ITEMS),
    "strata": lambda: Strata(store()),
    **{f"{scorer} alone": lambda scorer=scorer: Alone(store(), scorer=scorer) for scorer in SCORERS},  # type: ignore[misc]
}


def clicks(n: int = 1_600, seed: int = 3) -> Clicks:
    """Each user keeps to one group of items; the first group is the most liked."""
    draw = np.random.default_rng(seed)
    users = draw.integers(0, 100, n)
    groups = np.minimum(users % (len(GROUPS) + 2), len(GROUPS) - 1)
    return Clicks(users, groups * EACH + draw.integers(0, EACH, n), 1_000_000 + 1000 * np.arange(n))


def asked(histories: list[list[int]], users: list[int] | None = None) -> Questions:
    b = len(histories)
    rows = np.full((b, HISTORY), -1, np.int64)
    for i, history in enumerate(histories):
        rows[i, : len(history)] = history
    seen = [i * ITEMS + row for i, history in enumerate(histories) for row in set(history)]
    lengths = np.array(list(map(len, histories)))
    numbers = np.arange(b) if users is None else np.array(users)
    return Questions(numbers, rows, lengths, np.array(seen, np.int64), 3_000_000, ITEMS)


def taught(make: Callable[[], Peer], stream: Clicks) -> Peer:
    peer = make()
    for start in range(0, len(stream), 64):
        part = slice(start, start + 64)
        peer.learn(Clicks(stream.users[part], stream.rows[part], stream.times[part]))
    return peer


@cache
def experienced(name: str) -> Peer:
    return taught(PEERS[name], clicks())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the evaluation; implicit warns of more."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("name", PEERS)
class TestPeer:
    """What every peer promises."""

    def lists(self, name: str, questions: Questions) -> NDArray[np.int64]:
        return experienced(name).recommend(questions, 10)

    def test_it_answers_alike_from_run_to_run(self, name: str) -> None:
        questions = asked([[1, 2], [25], [31, 35]])
        again = taught(PEERS[name], clicks()).recommend(questions, 10)
        assert (self.lists(name, questions) == again).all()

    def test_it_lists_items_of_the_catalogue_once_each_and_never_a_seen_one(self, name: str) -> None:
        draw = np.random.default_rng(1)
        histories = [draw.integers(0, ITEMS, draw.integers(0, 30)).tolist() for _ in range(40)]
        for row, history in zip(self.lists(name, asked(histories)), histories, strict=True):
            listed = row[row >= 0].tolist()
            assert (row[len(listed) :] == -1).all(), "a gap in the list"
            assert len(set(listed)) == len(listed)
            assert set(listed) <= set(range(ITEMS)) - set(history)

    def test_it_learns_what_users_of_a_kind_click(self, name: str) -> None:
        # the same users as in the stream: some peers know users, others only histories
        stream = clicks()
        users = list(range(60))
        histories = [stream.rows[stream.users == user][::-1][:4].tolist() for user in users]
        lists = self.lists(name, asked(histories, users))[:, :5]
        groups = np.array([histories[user][0] // EACH for user in users])
        right = (lists // EACH == groups[:, None]).mean()
        at_random = 1 / len(GROUPS)
        assert right > (0.9 * at_random if name == "popularity" else 2.5 * at_random)

    def test_who_is_new_has_a_whole_list_too(self, name: str) -> None:
        lists = self.lists(name, asked([[]], [10_000]))
        # some scorers have nothing to say of a user without clicks; the blend has
        assert (lists >= 0).all() or name in ("co alone", "text alone", "text.like alone", "linear alone")

    def test_before_the_first_click_it_answers_too(self, name: str) -> None:
        assert PEERS[name]().recommend(asked([[], [3]]), 10).shape == (2, 10)

    def test_a_click_outside_the_catalogue_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="catalogue of 60"):
            PEERS[name]().learn(Clicks(np.array([0]), np.array([ITEMS]), np.array([1])))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Popularity(ITEMS, half_life=0),
        lambda: ItemKNN(ITEMS, neighbours=0),
        lambda: EASE(ITEMS, l2=-1),
        lambda: IALS(ITEMS, factors=0),
        lambda: SASRec(ITEMS, steps=0),
        lambda: RiverMF(ITEMS, rate=0),
        lambda: Strata(store(), without=("magic",)),
        lambda: Alone(store(), scorer="magic"),
    ],
)
def test_a_setting_without_sense_is_refused(make: Callable[[], Peer]) -> None:
    with pytest.raises(StrataError):
        make()


def test_clicks_of_unequal_or_negative_numbers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 users on 1 items"):
        Clicks(np.array([0, 1]), np.array([1]), np.array([1]))
    with pytest.raises(ConfigurationError, match="negative"):
        Clicks(np.array([0]), np.array([-1]), np.array([1]))


def test_a_history_weighs_newer_clicks_more_and_adds_up_repeats() -> None:
    weights = asked([[4, 7, 4], []]).history(0.5).toarray()
    assert weights[0, 4] == pytest.approx(1.25)
    assert weights[0, 7] == pytest.approx(0.5)
    assert weights[1].sum() == 0


def test_top_is_sorted_filtered_and_of_equals_takes_the_lower_row() -> None:
    scores = np.full((1, ITEMS), -np.inf, np.float32)
    scores[0, [3, 9, 5, 20]] = [1, 2, 2, 7]
    assert top(scores, asked([[20]]), 5).tolist() == [[5, 9, 3, -1, -1]]


def test_popularity_forgets_by_its_half_life() -> None:
    peer = Popularity(ITEMS, half_life=10)
    for row in (1, *[2] * 10):
        peer.learn(Clicks(np.array([0]), np.array([row]), np.array([1])))
    assert peer.counts[1] == pytest.approx(0.5)


def test_ease_is_the_closed_form() -> None:
    stream = clicks(400)
    peer = EASE(ITEMS, l2=5.0, every=10**6)
    peer.fit(stream.users, stream.rows)
    x = np.zeros((100, ITEMS))
    x[stream.users, stream.rows] = 1
    x = x[:, peer._chosen]
    p = np.linalg.inv(x.T @ x + 5.0 * np.eye(x.shape[1]))
    expected = p / -np.diag(p)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(peer._weights, expected, atol=1e-4)


def test_rivers_scores_are_rivers_own_predictions() -> None:
    peer = taught(PEERS["river_mf"], clicks(300))
    assert isinstance(peer, RiverMF)
    best = peer.recommend(asked([[]], [5]), 10)[0].tolist()
    scores = {row: peer.model.predict_one(5, row) for row in range(ITEMS) if peer._clicked[row]}
    assert best == sorted(scores, key=lambda row: -scores[row])[:10]


def again(histories: list[list[int]], users: list[int], lengths: list[int]) -> Questions:
    """Where whatever a user has clicked may come again."""
    made = asked(histories, users)
    return Questions(made.users, made.histories, np.array(lengths), np.empty(0, np.int64), made.now, made.items)


def test_own_items_go_by_all_clicks_of_the_user_to_the_last() -> None:
    peer = OwnItems(ITEMS)
    clicked = [5] * 3 + [7] * 2 + [9]
    peer.learn(Clicks(np.zeros(6, np.int64), np.array(clicked), np.arange(6)))
    peer.learn(Clicks(np.array([1]), np.array([30]), np.array([7])))
    assert peer.recommend(again([[9, 7, 7]], [0], [6]), 3).tolist() == [[5, 7, 9]], "beyond what the question shows"
    newer = again([[9, 9, 9, 9, 7, 7], [], [40]], [0, 2, 3], [9, 0, 1])
    made = peer.recommend(newer, 4)
    assert made[0].tolist() == [9, 5, 7, 30]
    assert made[1].tolist()[0] in (5, 9, 30)
    assert made[2].tolist()[0] == 40


def test_strata_remembers_what_a_user_chose_and_may_choose_again() -> None:
    peer = Strata(store(), repeats=True)
    at = 3_000_000 - 1000 * np.arange(6)[::-1]
    peer.learn(Clicks(np.zeros(6, np.int64), np.array([5, 5, 5, 7, 7, 9]), at))
    (profile,) = peer.profiles(again([[9, 9, 9, 7, 7, 5, 5, 5]], [0], [8]))
    named = {peer.system.items.row(f"{GROUPS[0]}-{i}"): i for i in range(EACH)}
    counts = {named[peer.system.items.find(peer.system.items.ids[row])]: row for row in set(profile.rows)}
    hashes = peer.system.items.hashes
    assert {item: profile.often.get(int(hashes[row]), 1) for item, row in counts.items()} == {5: 3, 7: 2, 9: 3}
    assert {5, 7, 9} <= set(peer.recommend(again([[9, 7, 7, 5, 5, 5]], [0], [6]), 10)[0].tolist())
    forgetful = Strata(store())
    assert not forgetful.profiles(again([[9]], [0], [1]))[0].seen


def test_without_a_part_its_features_weigh_nothing() -> None:
    from models.features import FEATURES

    weights = Strata(store(), without=("text", "layer")).system.recommender.weights
    for feature, column in zip(FEATURES, weights.T, strict=True):
        if feature.startswith(("text", "layer")):
            assert not column.any()
    assert weights[:, FEATURES.index("co.ratio")].all()
