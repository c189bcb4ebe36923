"""What BERT on the user's side adds, measured: whose hits are compared, and how."""

import numpy as np

from ops.bench.mix import MIXES, Mixed, _hits, mean


def test_a_hit_is_in_the_top_ten_of_those_that_may_be_listed_and_is_said_something_of() -> None:
    scores = np.tile(np.arange(12, 0, -1, dtype=np.float32), (4, 1))
    valid, clicked = np.ones((4, 12), np.bool_), np.zeros((4, 12), np.bool_)
    clicked[0, 9] = clicked[1, 10] = clicked[2, 10] = True  # the last user has none
    valid[2, 0] = False
    assert _hits(scores, clicked, valid).tolist() == [True, False, True, False]
    assert not _hits(np.zeros_like(scores), clicked, valid).any()


def test_gains_are_of_the_same_clicks_and_those_of_few_clicks_apart() -> None:
    served = np.zeros((4, len(MIXES)), np.bool_)
    served[0] = True
    served[1, 2] = served[2, 0] = served[3, 2] = True
    mixed = Mixed(served, ~served, np.arange(4), np.array([0, 3, 4, 1]))
    first, second, third = (row.split(" | ") for row in mixed.rows("shop"))
    assert first[:4] == ["| shop", "0.3", "4", "0.5000"]
    assert [row[4].split(" ± ")[0] for row in (first, second, third)] == ["-0.2500", "+0.2500", "-0.2500"]
    assert [row[5].split(" ± ")[0] for row in (first, second, third)] == ["+0.0000", "+1.0000", "+0.0000"]
    assert second[7].startswith("-0.2500")
    none = Mixed(served, served, np.arange(4), np.array([0, 9, 9, 9]))
    assert next(none.rows("shop")).split(" | ")[5] == "–"


def test_the_mean_counts_each_data_set_once() -> None:
    users = np.arange(40)
    served = np.zeros((40, len(MIXES)), np.bool_)
    served[:20, 1] = True
    many = Mixed(served, served, users, users)
    few = Mixed(served[::10], served[::10], users[::10], users[::10])
    none = Mixed(served[20:], served[20:], users[20:], users[20:])
    assert many.gap(1)[0] == few.gap(1)[0] == 0.5
    assert none.gap(1) == (0, 0)
    assert mean([many, none], 1).startswith("+0.2500 ± ")
    assert mean([many, few, none], 1).startswith("+0.3333 ± ")
    assert mean([none, none], 1) == "+0.0000 ± 0.0000"
    assert float(mean([many, none], 1).split("± ")[1]) == round(many.gap(1)[1] / 2, 4)
