"""The picture of the interest map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import ConfigurationError
from models.records import LayerInfo, LayerTree, ProfileRecord, encode, half
from ops.layer_plot import draw, plot_layers
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.topics import Topics

R, D = 4, 6


def tree(coarse: int = 3) -> LayerTree:
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(coarse, 2, R))
    basis = np.linalg.qr(rng.normal(size=(D, R)))[0].T
    return LayerTree(
        version=1, model="m", dimensions=(R, D), basis=basis.astype("<f4").tobytes(), created_ms=0,
        coarse=fine.mean(axis=1).astype("<f4").tobytes(), fine=fine.astype("<f4").tobytes(), epochs=(0,) * coarse * 2,
    )  # fmt: skip


def user(layer: str, vector: np.ndarray | None = None) -> ProfileRecord:
    value = np.random.default_rng(len(layer)).normal(size=D).astype(np.float32) if vector is None else vector
    return ProfileRecord(
        applied=0, encoded=0, clicks=1, fresh=0, history=(), seen=b"", events=(), vector=half(value), layer=layer,
        updated_ms=0,
    )  # fmt: skip


def info(name: str, label: str) -> LayerInfo:
    return LayerInfo(id=name, label=label, size=0.3, epoch=0, items=(), counts=b"", totals=(), half_lives=())


def test_each_format_is_drawn_with_names_that_are_nobodys_formula(tmp_path: Path) -> None:
    infos = [info("0", "$\\frac{$"), info("1", "tea & <b>cups</b>\x1b[2J"), info("2", "x" * 80)]
    users = [user("0.1"), user("2.0"), user("1"), user(""), user("7.0"), user("0.0", np.zeros(D + 1, np.float32))]
    for name in ("map.svg", "map.png", "map.pdf"):
        draw(tree(), infos, users, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 2_000
    again = tmp_path / "again.svg"
    draw(tree(), infos, users, again)
    text = again.read_text()
    assert text == (tmp_path / "map.svg").read_text(), "the same picture, the same bytes"
    assert "3 users in 3 interest layers" in text
    assert "\x1b" not in text


def test_a_picture_of_another_kind_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigurationError, match=r"\.svg, \.png, \.pdf"):
        plot_layers(Connection(bootstrap="127.0.0.1:1"), Topics(), Path("map.bmp"))


@pytest.mark.broker
def test_what_is_published_is_drawn_each_user_where_he_is_now(
    tansu: Connection, topics: Topics, tmp_path: Path
) -> None:
    topics.ensure(tansu)
    publisher = Publisher(tansu)
    gone = Message(topics.profiles, b"bob", None, 0)
    publisher.publish([Message(topics.layers, b"tree", encode(tree()), 0)])
    publisher.publish([Message(topics.layers, b"layer/1", encode(info("1", "teas")), 0)])
    publisher.publish([Message(topics.profiles, name, encode(user("1.0")), 0) for name in (b"ann", b"bob", b"ann")])
    publisher.publish([gone])
    publisher.close()
    assert [layer.label for layer in plot_layers(tansu, topics, tmp_path / "map.svg")] == ["teas"]
    assert "1 users in 3 interest layers" in (tmp_path / "map.svg").read_text()
