"""Reasons are true whoever ranks: the weights learned online, who serves by choice, each expert.

Without the clicks that a reason names, the item has less of co, text and the linear part, and falls against the others.
It need not be so for each: what co says of an item is a share of the best candidate's, and that one may lose more by
the same click.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from small_shop import DIMENSION, GROUPS, NOW, record

from models.events import Click
from models.experts import EXPERTS
from models.features import PARTS, TO_PARTS
from models.histories import BUCKETS
from models.items import ItemStore
from models.profile import Profile
from models.ranked_list import RankedList
from models.ranker import RankingConfig
from models.records import ItemVector, half
from ops.datasets import CACHE, dataset
from ops.prequential import System, blocks, ordered

CLICKS = 2_000
HOLDS = {"films": 0.95, "shop": 0.9}
"""Share of the reasons without whose clicks co and text add less, and the item falls against the median of the others.
The least that was seen, of any weights: films .986 and .986, shop .942 (learned) and .928. In the shop most of the
others are of the same kind, the same click raised them too, and a feature is a share of the best one's.
"""
KEPT = (1, 2, 3, 6, 20)
"""Last clicks left to the users who are asked for: every length of history is in it."""

CLICKED = [PARTS.index(part) for part in ("co", "text", "linear")]
HISTORY = ("co", "co.short", "text", "text.like", "linear", "history")
"""Experts that rank by what the user clicked."""


@dataclass
class Served:
    """A system that has learned online, and users of it."""

    stream: str
    system: System
    profiles: list[Profile]

    def weights(self, who: str) -> np.ndarray:
        ranker = self.system.ranker
        if who in ("learned", "serving"):
            return ranker.learned() if who == "learned" else ranker.serving()
        return ranker.rankings.weights(ranker.learned(), np.full(len(BUCKETS), EXPERTS.index(who)))


def shop() -> tuple[ItemStore, list[Click]]:
    """Users who each like two kinds of things, the second one lately."""
    items, draw = ItemStore(DIMENSION), np.random.default_rng(3)
    for group, name in enumerate(GROUPS):
        for i in range(40):
            items.put(f"{name}-{i}", record(group, group * 1000 + i))
    clicks = []
    for n in range(CLICKS):
        user = int(draw.integers(150))
        name = GROUPS[(user + (draw.random() < n / CLICKS)) % len(GROUPS)]
        clicks.append(Click(user_id=f"u{user}", item_id=f"{name}-{int(40 * draw.random() ** 2)}", ts=NOW + 1000 * n))
    return items, clicks


def films() -> tuple[ItemStore, list[Click]]:
    if not (CACHE / "movielens-100k").is_dir():
        pytest.skip("MovieLens-100k is not here: `strata evaluate --data movielens-100k` fetches it")
    data = dataset("movielens-100k")
    clicks = sorted(data.clicks(), key=lambda click: click.ts)[:CLICKS]
    items, rated = ItemStore(64), {click.item_id for click in clicks}
    for film in data.items():
        if film.item_id in rated:
            words = [word.encode() for word in (*film.tags, *film.title.split())]
            vector = sum(np.random.default_rng(zlib.crc32(word)).normal(size=64) for word in words)
            vector /= np.linalg.norm(vector)
            items.put(
                film.item_id,
                ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title=film.title, tags=film.tags),
            )
    return items, clicks


@pytest.fixture(scope="module", params=[shop, films], ids=lambda param: param.__name__)
def served(request: pytest.FixtureRequest) -> Served:
    items, clicks = request.param()
    # who has the last place for being new is not there by the score of whoever serves
    system = System(items, RankingConfig(new_items=0))
    done = 0
    for block in blocks(ordered(clicks, "shuffle", seed=7)):
        flat = [click for group in block for click in group]
        system.learn(flat, done)
        done += len(flat)
    profiles = []
    for n, profile in enumerate(list(system.profiles.values())[-60:]):
        last = KEPT[n % len(KEPT)]
        profiles.append(
            Profile(
                profile.user_id,
                clicks=last,
                rows=profile.rows[-last:],
                events=profile.events[-last:],
                seen=profile.seen,
            )
        )
    system.place(profiles)
    return Served(request.param.__name__, system, profiles)


def claims(served: Served, profile: Profile, ranked: RankedList) -> list[tuple[bool, bool]]:
    """For each reason that names clicks: whether without them what they teach adds less, and the item falls."""
    recommender = served.system.recommender
    told = [(row, parts, {c for c in causes if c >= 0}) for row, parts, causes in zip(
        ranked.rows, ranked.parts, ranked.because, strict=True,
    )]  # fmt: skip
    told = [(row, parts, causes) for row, parts, causes in told if causes]
    if not told:
        return []
    others = []
    for _, _, causes in told:
        rows = [row for row in profile.rows if row not in causes]
        others.append(Profile(profile.user_id, clicks=profile.clicks, rows=rows, seen=profile.seen))
    served.system.place(others)
    for other in others:
        other.vector = other.vector if other.rows else None
    before, after = recommender.score([profile], NOW), recommender.score(others, NOW)
    scores = dict(zip(before.candidates.rows[0].tolist(), before.scores[0].tolist(), strict=True))
    found = []
    for user, (row, parts, _) in enumerate(told):
        rows, valid = after.candidates.rows[user], after.candidates.valid[user]
        left = dict(zip(rows[valid].tolist(), after.scores[user][valid].tolist(), strict=True))
        if row not in left:
            found.append((True, True))  # it is not even looked at any more
            continue
        place = int(np.flatnonzero((rows == row) & valid)[0])
        added = (after.features[user, :, place] * recommender.weights[after.buckets[user]]) @ TO_PARTS
        rivals = [rival for rival in left if rival != row and np.isfinite(scores.get(rival, -np.inf))]
        lead, lead_left = (of[row] - np.median([of[rival] for rival in rivals]) for of in (scores, left))
        found.append((sum(added[i] for i in CLICKED) < sum(parts[i] for i in CLICKED), lead_left < lead))
    return found


def test_the_weights_are_learned_ones(served: Served) -> None:
    learned = served.weights("learned")
    assert np.abs(learned - served.system.ranker.rankings.prior).max() > 0.2
    assert learned.min() < -0.05, "some of what a scorer says speaks against an item"


@pytest.mark.parametrize("who", ["learned", "serving", *EXPERTS[1:]])
def test_without_the_clicks_that_a_reason_names_its_item_falls(served: Served, who: str) -> None:
    recommender = served.system.recommender
    recommender.weights = served.weights(who)
    lists = recommender.recommend(served.profiles, NOW)
    for ranked in lists:
        for score, parts in zip(ranked.scores, ranked.parts, strict=True):
            assert sum(parts) == pytest.approx(score, abs=1e-6)
    found = [claim for profile, ranked in zip(served.profiles, lists, strict=True) for claim in claims(
        served, profile, ranked,
    )]  # fmt: skip
    places = sum(len(ranked.rows) for ranked in lists)
    assert places >= 9 * len(lists)
    # nothing may come again here: then own items say nothing, and what is left is the prior
    if who not in ("learned", "serving", "prior", "own", *HISTORY):
        assert found == [], "it is not for what he clicked that an item is here"
        return
    assert len(found) >= places / 2
    less, falls = np.mean(found, axis=0)
    assert less >= HOLDS[served.stream]
    assert falls >= HOLDS[served.stream]


@pytest.mark.parametrize("who", ["learned", "serving", *EXPERTS[1:]])
def test_a_sentence_says_nothing_of_what_does_not_raise_the_item(served: Served, who: str) -> None:
    recommender = served.system.recommender
    recommender.weights = served.weights(who)
    for profile, ranked in zip(served.profiles, recommender.recommend(served.profiles, NOW), strict=True):
        for item in recommender.ranked_items(ranked, profile):
            text, parts = item.reason.text, item.reason.parts
            raised = sum(max(0.0, part) for part in parts.values())
            for phrase, part in (("People in", "layer"), ("people in", "layer"), ("opular right now", "popularity")):
                # who is in no layer is with everybody, and has its popularity as that of his layer
                assert phrase not in text or parts[part] > 0 or (part == "popularity" and not ranked.layer)
            by_history = text.startswith(("Because", "Like", "Often chosen together", "Close"))
            together = max(parts["co"], 0) + max(parts["linear"], 0)
            assert not by_history or max(together, parts["text"]) >= 0.1 * raised - 1e-3
