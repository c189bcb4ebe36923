"""What ``strata experts`` says."""

from io import StringIO

from rich.console import Console

from models.experts import EXPERTS
from models.histories import BUCKETS
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig, Lesson, RankerLearner
from models.ranker_records import weights_of
from ops.experts import span, table


def shown(ranker: RankerLearner) -> list[str]:
    console = Console(width=160, file=StringIO())
    with console.capture() as capture:
        console.print(table(weights_of(ranker, 0)))
    return capture.get().splitlines()


def test_who_serves_stands_with_what_it_hit_and_who_comes_next() -> None:
    ranker = RankerLearner(RankingConfig().prior, LearningConfig(caution=0))
    lesson = Lesson.empty()
    lesson.clicks[1] = 100
    lesson.hits[1, EXPERTS.index("text")] = 30
    lesson.hits[1, EXPERTS.index("learned")] = 20
    lesson.clicks[2] = 400
    lesson.hits[2, EXPERTS.index("co")] = 80
    ranker.learn(lesson)
    lines = shown(ranker)
    assert "500 clicks" in lines[0]
    (row,) = [line for line in lines if "text" in line]
    assert row.index("text") < row.index("30.0%") < row.index("learned 20.0%")
    assert sum("no clicks yet" in line for line in lines) == len(BUCKETS) - 2


def test_a_stream_that_has_just_broken_is_told() -> None:
    ranker = RankerLearner(RankingConfig().prior)
    assert not any("broke" in line for line in shown(ranker))
    ranker.version, ranker.young = 2_000, 12_000
    ranker.breaks.add([1_000, 1_700_000_000_000])
    broke, until = shown(ranker)[-2:]
    assert "last broke about 2023-11-14 22:13:20 UTC" in broke
    assert "until 12,000" in until
    ranker.version = 12_000
    assert "last broke" in shown(ranker)[-1]


def test_a_bucket_is_named_by_its_lengths() -> None:
    assert [span(BUCKETS, bucket) for bucket in range(len(BUCKETS))] == ["0", "1", "2–3", "4–9", "10–29", "30+"]
