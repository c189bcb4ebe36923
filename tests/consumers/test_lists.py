"""What a user's messages say of him."""

from __future__ import annotations

import msgspec
import numpy as np
from updater_bench import Bench

from consumers.stage import Work
from consumers.striking import LOOK_S
from models.records import LayerTree, Recommendation, encode


def halves(bench: Bench, first: str, second: str, version: int) -> None:
    """Two layers, all users in one of them: with the names exchanged everybody is in the other one."""
    d = bench.items.dimension
    sides = np.array([{"0.0": 1.0, "1.0": -1.0}[name] for name in (first, second)], "<f4").tobytes()
    basis = np.eye(1, d, dtype="<f4").tobytes()
    tree = LayerTree(
        version=version,
        model=bench.encoder.name,
        dimensions=(1, d),
        basis=basis,
        coarse=sides,
        fine=sides,
        epochs=(0, 0),
        created_ms=0,
    )
    bench.topics.append(bench.names.layers, b"tree", encode(tree))


def changes(bench: Bench) -> tuple[float | None, ...]:
    of = bench.metrics.registry.get_sample_value
    return tuple(of("strata_layer_changes_total", {"level": level}) for level in ("coarse", "fine"))


def clicked(bench: Bench, item: str) -> Work:
    bench.submit(bench.click("ann", item))
    bench.encode()
    return bench.work()


def layers(bench: Bench, work: Work) -> tuple[str, str]:
    (profile,) = bench.profiles(work)
    return profile.layer_before, profile.layer


def test_a_profile_says_in_which_layer_it_was_when_it_was_published_before(bench: Bench) -> None:
    assert layers(bench, clicked(bench, "i0")) == ("", ""), "there are no layers yet"
    halves(bench, "0.0", "1.0", 1)
    before, here = layers(bench, clicked(bench, "i1"))
    there = {"0.0": "1.0", "1.0": "0.0"}[here]
    assert before == ""
    assert layers(bench, clicked(bench, "i2")) == (here, here)
    assert changes(bench) == (0, 0)

    halves(bench, "1.0", "0.0", 2)
    work = clicked(bench, "i3")
    assert layers(bench, work) == (here, there)
    assert changes(bench) == (1, 1)

    halves(bench, "0.0", "1.0", 3)
    (shown,) = bench.lists(work)
    bench.topics.append(bench.names.vectors, shown.items[0].item_id, None)
    bench.clock.now += LOOK_S
    work = bench.work()
    (again,) = bench.lists(work)
    assert again.layer is not None
    assert (again.layer.id, bench.profiles(work)) == (here, []), "he is in the other one, and no profile says so yet"
    assert layers(bench, clicked(bench, "i4")) == (there, here), "a list that was only made again loses no change"
    assert changes(bench) == (2, 2)


def test_a_change_of_layer_that_the_broker_refuses_is_told_with_the_next_profile(bench: Bench) -> None:
    halves(bench, "0.0", "1.0", 1)
    _, here = layers(bench, clicked(bench, "i0"))
    halves(bench, "1.0", "0.0", 2)
    bench.submit(bench.click("ann", "i1"))
    bench.encode()
    bench.clock.now += 0.05
    work = bench.updater.poll(bench.clock.now)
    assert work is not None
    (made,) = (m for m in work.messages if m.topic == bench.names.recommendations)
    assert msgspec.json.decode(made.value or b"", type=Recommendation).layer
    bench.updater.refused(work, [(made, "too large")])
    before, after = layers(bench, clicked(bench, "i2"))
    assert before == here != after
