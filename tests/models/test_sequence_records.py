"""The deep part's net as bytes: what is read says what was written, and whatever else there is to read is refused."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.numpy import load, save

from models.errors import InvalidEvent
from models.records import decode, encode
from models.sequence import SequenceConfig, SequenceNet
from models.sequence_records import (
    PART_BYTES,
    Assembly,
    SequenceHead,
    SequenceLayout,
    SequencePart,
    cut,
    digest_of,
    read,
    written,
)

D = 12
SMALL = SequenceConfig(dimension=8, heads=2, slots=512)
LAYOUT = SequenceLayout.of("m", D, SMALL)
LEARNED = (3, 17, 40, 511)


@pytest.fixture(scope="module")
def net() -> SequenceNet:
    """One whose clicks have taught something of three rows."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        net = SequenceNet(D, SMALL)
        net.centre(torch.randn(50, D))
        for row in (3, 17, 511):
            net.items.weight[row] = torch.randn(8)
        for row in (3, 40):  # a rival that stands in no history has nothing but this
            net.bias.weight[row] = 0.5
    return net.eval()


def head_of(data: bytes, version: int = 5, **fields: object) -> SequenceHead:
    parts = len(cut(data, version))
    known = {"version": version, "created_ms": 1, "parts": parts, "digest": digest_of(data)}
    return SequenceHead(**(known | {"layout": LAYOUT, "offsets": {0: 7}} | fields))  # type: ignore[arg-type]


# -- the bytes -------------------------------------------------------------------------------------------------------


def test_what_is_read_says_what_was_written(net: SequenceNet) -> None:
    again = read(written(net), LAYOUT)
    for (name, one), other in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        loss = 1e-3 if name in ("items.weight", "bias.weight") else 0
        assert other.numpy() == pytest.approx(one.numpy(), rel=loss), name
    assert written(again) == written(read(written(again), LAYOUT))
    clicks, there = torch.randn(4, 20, 8), torch.arange(20) < torch.tensor([[0], [1], [7], [20]])
    with torch.inference_mode():
        assert torch.equal(net(clicks, there), again.eval()(clicks, there))


def test_only_rows_that_clicks_have_taught_something_travel(net: SequenceNet) -> None:
    arrays = load(written(net))
    assert arrays["table.rows"].tolist() == list(LEARNED)
    assert arrays["table.items"].dtype == arrays["table.bias"].dtype == np.float16
    assert len(written(net)) < 40_000


def test_a_net_that_was_read_can_be_trained_on(net: SequenceNet) -> None:
    again = read(written(net), LAYOUT)
    assert all(parameter.requires_grad for parameter in again.parameters())
    _, bias = again.embed(torch.randn(2, D), torch.tensor([3, 4]))
    bias.sum().backward()
    assert again.bias.weight.grad.is_sparse


def test_weights_are_its_own(net: SequenceNet) -> None:
    data = written(net)
    one, other = read(data, LAYOUT), read(data, LAYOUT)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter += 1
    assert written(other) == data


Damage = Callable[[dict[str, np.ndarray]], object]


def in_place(name: str, value: float, at: int = 0) -> Damage:
    def damage(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[at] = value

    return damage


BROKEN: dict[str, Damage] = {
    "an array is missing": lambda a: a.pop("mix.bias"),
    "one too many": lambda a: a.update(more=np.zeros(1, np.float32)),
    "another shape": lambda a: a.update({"start": a["start"][None]}),
    "turned": lambda a: a.update({"text.weight": np.ascontiguousarray(a["text.weight"].T)}),
    "doubles": lambda a: a.update(start=a["start"].astype(np.float64)),
    "integers": lambda a: a.update(start=a["start"].astype(np.int32)),
    "not a number": in_place("mean", np.nan),
    "without an end": in_place("feed.0.weight", np.inf),
    "huge": in_place("query.weight", -1e30),
    "no scale": in_place("scale", 0),
    "a scale below 0": in_place("scale", -1),
    "a huge scale": in_place("scale", 1e20),
    "an item that is not a number": in_place("table.items", np.nan),
    "an endless bias": in_place("table.bias", np.inf),
    "a table without rows": lambda a: a.pop("table.rows"),
    "rows of another kind": lambda a: a.update({"table.rows": a["table.rows"].astype(np.int64)}),
    "rows in a square": lambda a: a.update({"table.rows": a["table.rows"][:, None]}),
    "a row below 0": in_place("table.rows", -1),
    "a row past the end": in_place("table.rows", 512, 3),
    "a row twice": in_place("table.rows", 17),
    "rows out of order": in_place("table.rows", 20),
    "fewer items than rows": lambda a: a.update({"table.items": a["table.items"][:2]}),
    "more biases than rows": lambda a: a.update({"table.bias": np.zeros(5, np.float16)}),
    "items as floats": lambda a: a.update({"table.items": a["table.items"].astype(np.float32)}),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_file_that_is_no_net_of_ours_is_refused(net: SequenceNet, damage: str) -> None:
    arrays = dict(load(written(net)))
    BROKEN[damage](arrays)
    with pytest.raises(InvalidEvent):
        read(save(arrays), LAYOUT)


@pytest.mark.parametrize(
    "other",
    [
        replace(LAYOUT, vectors=D + 1),
        replace(LAYOUT, dimension=16),
        replace(LAYOUT, slots=100),
    ],
)
def test_a_net_of_another_layout_is_refused(net: SequenceNet, other: SequenceLayout) -> None:
    with pytest.raises(InvalidEvent):
        read(written(net), other)


def test_bytes_that_are_no_file_are_refused(net: SequenceNet) -> None:
    good, draw = written(net), random.Random(1)
    length = (1 << 62).to_bytes(8, "little")
    strange = b'{"start":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    deep = b'{"a":' * 3_000
    values = [b"", b"\0", length, length + good[8:], len(strange).to_bytes(8, "little") + strange + b"ab"]
    values += [len(deep).to_bytes(8, "little") + deep]
    values += [draw.randbytes(draw.randrange(400)) for _ in range(200)]
    values += [good[: draw.randrange(len(good))] for _ in range(200)]
    for value in values:
        with pytest.raises(InvalidEvent):
            read(value, LAYOUT)
    for _ in range(300):  # a changed header, or a number that another one replaces: refused, or another net
        changed = bytearray(good)
        for _ in range(3):
            changed[draw.randrange(2_500)] = draw.randrange(256)
        try:
            made = read(bytes(changed), LAYOUT)
        except InvalidEvent:
            continue
        assert all(torch.isfinite(parameter).all() for parameter in made.parameters())


def test_the_largest_weights_that_are_taken_leave_all_numbers_finite() -> None:
    net = SequenceNet(D, SMALL).eval()
    draw = np.random.default_rng(1)
    with torch.no_grad():
        for tensor in [*net.parameters(), net.mean]:
            tensor.copy_(torch.from_numpy(draw.choice([-1e4, 1e4], tensor.shape)))
        net.scale.fill_(1e7)
    made = read(written(net), LAYOUT).eval()
    vectors = torch.nn.functional.normalize(torch.randn(20, D), dim=1)
    with torch.inference_mode():
        x, bias = made.embed(vectors, torch.arange(20))
        states = made(x[torch.randint(20, (5, 20))], torch.arange(20) < torch.tensor([[0], [1], [3], [9], [20]]))
        assert torch.isfinite(states @ x.T + bias[:, 0]).all()


# -- the parts -------------------------------------------------------------------------------------------------------


def large() -> bytes:
    return random.Random(2).randbytes(PART_BYTES + 100)


ROOMY = replace(LAYOUT, slots=1 << 16)


def test_a_snapshot_travels_in_parts_and_comes_back() -> None:
    data = large()
    parts = [decode(encode(part), SequencePart) for part in cut(data, 5)]
    assert [len(part.data) for part in parts] == [PART_BYTES, 100]
    head = decode(encode(head_of(data)), SequenceHead)
    assert head == head_of(data)
    assembly = Assembly(ROOMY)
    for part in reversed(parts):
        assert assembly.whole(head) is None, "not all of them are there"
        assembly.add(part)
    assert assembly.whole(head) == data
    assert assembly.whole(head) is None, "they are not kept"


def test_parts_of_another_version_are_not_taken_for_this_ones() -> None:
    data = large()
    old, new = cut(data, 5), cut(data, 6)
    assembly = Assembly(ROOMY)
    assembly.add(new[0])
    assembly.add(old[1])  # what compaction, or a kill in between, leaves
    assert assembly.whole(head_of(data, 5)) is None
    assert assembly.whole(head_of(data, 6)) is None
    for part in new:
        assembly.add(part)
    assert assembly.whole(head_of(data, 5)) is None
    assert assembly.whole(head_of(data, 6)) == data


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": b""},
        {"digest": digest_of(b"another")},
        {"parts": 0},
        {"parts": -1},
        {"parts": 1},
        {"parts": 1 << 40},
        {"version": 0},
        {"offsets": {0: -1}},
    ],
)
def test_a_head_that_does_not_fit_its_parts_is_refused(fields: dict[str, object]) -> None:
    data = large()
    assembly = Assembly(ROOMY)
    for part in cut(data, int(str(fields.get("version", 5)))):
        assembly.add(part)
    with pytest.raises(InvalidEvent):
        assembly.whole(head_of(data, **fields))  # type: ignore[arg-type]


def test_parts_that_no_snapshot_has_are_refused_and_memory_is_bounded() -> None:
    assembly = Assembly(LAYOUT)
    assert LAYOUT.most_parts == 1
    assert ROOMY.most_parts > 2
    for number in (-1, LAYOUT.most_parts, 1 << 40):
        with pytest.raises(InvalidEvent):
            assembly.add(SequencePart(1, number, b"x"))
    with pytest.raises(InvalidEvent):
        assembly.add(SequencePart(1, 0, b"x" * (PART_BYTES + 1)))
    roomy = Assembly(ROOMY)
    tracemalloc.start()
    for version in range(20):
        for number in range(ROOMY.most_parts):
            roomy.add(SequencePart(version, number, random.randbytes(PART_BYTES)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < (ROOMY.most_parts + 1) * PART_BYTES


def test_the_largest_snapshot_fits_into_the_parts_that_there_may_be() -> None:
    net = SequenceNet(D, SMALL)
    with torch.no_grad():
        net.items.weight += 1
        net.bias.weight += 1
    data = written(net)
    assert len(cut(data, 1)) <= LAYOUT.most_parts
    assert read(data, LAYOUT).items.num_embeddings == SMALL.slots
