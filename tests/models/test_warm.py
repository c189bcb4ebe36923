"""Loops are compiled before the first click, for all that comes later: a compilation takes seconds."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_shop import DIMENSION, NOW, Shop, record

from models import (
    choosing,
    cotext,
    diversity,
    feature_loops,
    filters,
    finding,
    hash_rows,
    histories,
    index,
    layer_membership,
    product,
    reason_loops,
    sequence_loops,
)
from models.index import ItemIndex
from models.kernels import Product
from models.layer_view import LayerView
from models.policy_file import parse
from models.profile import Profile
from models.recommender import Recommender
from models.sequence import SequenceConfig, SequenceNet, SequenceScorer
from models.warm import warm

ROOT = Path(__file__).parents[2]
CALLED_BY_PYTHON = (
    choosing.best, choosing.parts_of, choosing.summed, choosing.to_four_places, cotext._placed, diversity.diversified,
    feature_loops.rank, feature_loops.spread, feature_loops.weighed, filters._offered, finding.cut, finding.find,
    hash_rows._enter, hash_rows._look_up, histories._laid_out, index._cosines, layer_membership._soft,
    layer_membership._within, product._centre, product._widened, product.quantised, product.scaled,
    reason_loops.causes_of, sequence_loops.logits_of, sequence_loops.states_of,
)  # fmt: skip
POLICY = """
[repeat_after]
purchase = 1
[category_caps]
tea = 2
[users.u1]
blocked_categories = ["rope"]
[[boosts]]
name = "a"
add = 2
category = "rope"
[[pins]]
name = "p"
item = "paint-1"
place = 1
"""
PRECISIONS: tuple[Product, ...] = ("fp32", "bf16", "int8")


def compiled() -> list[int]:
    """For how many kinds of arguments each was compiled."""
    return [len(loop.signatures) for loop in CALLED_BY_PYTHON]  # type: ignore[attr-defined]


def make_lists_of_all_kinds() -> None:
    shop = Shop()
    shop.populate()
    size = SequenceConfig(dimension=16, slots=64)
    net = SequenceScorer(shop.items, size)
    net.put(SequenceNet(DIMENSION, size), 1)
    profiles = [*list(shop.profiles.values())[:5], Profile("nobody"), shop.click("one", "tea-1")]
    views = None, LayerView(shop.items), shop.view
    for exact_below, precision, view, sequence in itertools.product((1_000, 10), PRECISIONS, views, (None, net)):
        index = ItemIndex(shop.items, exact_below=exact_below, precision=precision)
        recommender = Recommender(shop.items, shop.neighbours, index, view, sequence=sequence)
        for users in (profiles, profiles[:1], profiles[5:6]):
            recommender.recommend(users, NOW)
            recommender.score(users, NOW)
        recommender.apply(parse(POLICY))
        recommender.recommend(profiles, NOW)
        recommender.recommend(profiles[:1], NOW)
    for late in range(3):  # working memory grows by more than is needed
        shop.items.put(f"late-{late}", record(0, 9_000 + late))
        shop.recommender.recommend(profiles, NOW)
    for item in list(shop.items.ids):
        shop.items.withdraw(item)
    shop.recommender.follow()
    assert not any(made.rows for made in shop.recommender.recommend(profiles, NOW))


def in_a_process_of_its_own(**environment: str) -> list[str]:
    """What it prints: other tests call the loops, too."""
    path = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    run = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | path | environment,
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    return run.stdout.splitlines()


def test_one_compilation_serves_all() -> None:
    assert in_a_process_of_its_own() == [str([1] * len(CALLED_BY_PYTHON))] * 2


@pytest.mark.timeout(520)  # all is compiled anew: a minute where nothing else runs, many where others do
def test_no_loop_leaves_its_arrays(tmp_path: Path) -> None:
    """With every index checked; as they run nothing checks them, and a wrong one would be the end of the process."""
    in_a_process_of_its_own(NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))


if __name__ == "__main__":
    warm()
    print(compiled())
    make_lists_of_all_kinds()
    print(compiled())
