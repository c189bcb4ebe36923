"""The default weights are fitted on nothing that the quality report reports."""

from pathlib import Path

import numpy as np
import pytest

from models import ranker
from models.candidates import Candidates
from models.features import FEATURES, SCORERS, part_of
from models.ranker import Scored
from ops import tune
from ops.quality.report import FITTED
from ops.quality.sources import Source, sources
from ops.quality.study import REPORTING


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    """The report's sources where Online Retail is there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "shared/data/online-retail").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return sources()


@pytest.mark.parametrize("given", tune.DATA)
def test_what_the_weights_are_fitted_on_is_of_the_part_that_tunes(given: str, reported: list[Source]) -> None:
    name, _, limit = given.partition(":")
    (source,) = [source for source in reported if Path(name).name == source.name]
    assert source.limit == (int(limit) if limit else None), "a fifth of more clicks reaches into what is reported"
    assert source.users is source.length is None
    assert REPORTING.start >= tune.SHARE


def test_those_where_items_come_again_are_sources_of_the_report(reported: list[Source]) -> None:
    assert set(tune.AGAIN) <= {source.name for source in reported}


def test_the_weights_of_own_items_are_found_beside_the_others_which_stay() -> None:
    """Of two candidates the one that the user has clicked before is clicked."""
    draw = np.random.default_rng(0)
    features = tune.torch.from_numpy(draw.random((200, len(FEATURES), 4)).astype(np.float16))
    features[:, FEATURES.index("own.log")] = 0
    features[:, FEATURES.index("own.log"), 2] = 1
    examples = tune.Examples(
        features, tune.torch.full((200,), 2), tune.torch.ones((200, 4), dtype=tune.torch.bool),
        tune.torch.from_numpy(draw.integers(0, 6, 200)),
    )  # fmt: skip
    beside = np.where([part_of(feature) == "own" for feature in FEATURES], 0, 0.3).astype(np.float32)
    beside = np.tile(beside, (6, 1))
    found = tune.fit([examples], near=False, beside=beside)
    others = [i for i, feature in enumerate(FEATURES) if part_of(feature) != "own"]
    assert not found[:, others].any()
    assert (found[:, FEATURES.index("own.log")] > 1).all()
    without = tune.fit([examples], near=False)
    assert not without[:, FEATURES.index("own.log")].any()
    assert without[:, others].any()


def test_without_arguments_these_are_what_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[tuple[str, int | None]] = []
    with_repeats: list[str] = []

    class Enough(Exception):
        pass

    def collect(data: str, encoder: object, limit: int | None = None) -> tune.Examples:
        looked_at.append((data, limit))
        return tune.Examples(*[tune.torch.empty(0)] * 4)

    def collect_again(source: Source) -> tune.Examples:
        with_repeats.append(source.name)
        if len(with_repeats) == len(tune.AGAIN):
            raise Enough
        return tune.Examples(*[tune.torch.empty(0)] * 4)

    monkeypatch.setattr(tune, "collect", collect)
    monkeypatch.setattr(tune, "collect_again", collect_again)
    monkeypatch.setattr(tune, "source", lambda name: Source(name, name))
    monkeypatch.setattr(tune.Encoder, "load", lambda precision: None)
    with pytest.raises(Enough):
        tune.main([])
    assert looked_at[0] == ("movielens-100k", None)
    assert looked_at[-1] == ("../shared/data/online-retail", 100_000)
    assert tuple(with_repeats) == tune.AGAIN


def test_the_report_tells_what_the_default_weights_were_fitted_on() -> None:
    """Whoever fits them anew says so in both places."""
    documented = Path(str(ranker.__file__)).read_text().split("Fitted by ``python -m ops.tune``")[1].split('"""')[0]
    for name in (*tune.DATA, *tune.AGAIN):
        assert f"``{name}``" in documented, name
    assert "on the first fifth of Online Retail's and of the grocery panel's" in FITTED
    count = int(tune.DATA[-1].partition(":")[2])
    assert f"of the first {count:,} clicks of Online Retail" in FITTED
    assert f"{tune.SHARE:g}" == "0.2", "the first fifth"


def test_a_clicked_item_is_found_wherever_it_stands_among_the_candidates() -> None:
    """Their rows are in the order in which they were found, not sorted."""
    rows = np.array([[7, 3, 9, 0], [4, 8, 1, 6], [5, 2, 0, 0]])
    valid = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]], np.bool_)
    features = np.arange(3 * len(FEATURES) * 4, dtype=np.float32).reshape(3, len(FEATURES), 4)
    said = np.zeros((len(SCORERS), 3, 4), np.float32)
    scored = Scored(Candidates(rows, valid, said), features, np.array([2, 0, 1]), said[0])
    found = list(tune._examples(scored, [3, 4, 0]))
    assert [(place, bucket) for _, place, bucket in found] == [(1, 2), (0, 0)], "what the third clicked is none"
    assert [made.shape[1] for made, *_ in found] == [3, 4], "what is not valid does not compete"
    assert (found[0][0] == features[0, :, :3].astype(np.float16)).all()
