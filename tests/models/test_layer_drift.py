from __future__ import annotations

import numpy as np

from models.layer_drift import DriftAlarm


def errors(n: int, level: float, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(level, 0.02, n).tolist()


def test_errors_that_rise_for_good_are_drift_and_falling_ones_are_not() -> None:
    alarm = DriftAlarm()
    assert not any(alarm.update(error) for error in errors(400, 0.3))
    assert sum(alarm.update(error) for error in errors(200, 0.45)) == 1
    assert not any(alarm.update(error) for error in errors(200, 0.3))


def test_a_steady_stream_raises_no_alarm_for_a_long_time() -> None:
    alarm = DriftAlarm()
    assert sum(alarm.update(error) for error in errors(10_000, 0.3)) == 0
    assert len(alarm.errors) < 4_096


def test_an_alarm_built_from_its_errors_goes_on_as_if_never_stopped() -> None:
    values = errors(300, 0.3) + errors(100, 0.45) + errors(3_000, 0.35) + errors(2_000, 0.5)
    alarm, told = DriftAlarm(), []
    for at, value in enumerate(values):
        if at % 97 == 0:
            alarm = DriftAlarm(errors=alarm.errors)
        told.append(alarm.update(value))
    whole = DriftAlarm()
    assert told == [whole.update(value) for value in values]
    assert any(told)
