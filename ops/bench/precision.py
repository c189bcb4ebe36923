"""What it costs that items' vectors are encoded in bf16, where that is faster: ``python -m ops.bench.precision``.

``python -m ops.bench.precision DATA…`` takes these data sets, by name or folder, ``NAME:N`` the first N clicks of one.
Where the processor has no instructions for bf16, encoding takes hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.experts import CUTOFF
from ops.bench.following import follow, named, of_data
from ops.quality.sources import Source

WARM_UP: Final = 0.3

DATA: Final = ("movielens-100k", "completejourney")
"""Items that read unlike one another, and such that read alike."""


def row(data: Source) -> str:
    """Both precisions on one data set."""
    exact = follow(data, start=WARM_UP, precision="fp32", label="fp32")
    rounded = follow(data, start=WARM_UP, precision="bf16", label="bf16")
    gap = exact.difference(rounded.hits[:, -1], exact.hits[:, -1])
    return f"| {data.name} | {len(exact.at):,} | {exact.rate(-1):.4f} | {rounded.rate(-1):.4f} | {gap} |"


def precision_section(names: Sequence[str] | None = None) -> str:
    """A table of all data sets."""
    lines = [
        "## Precision of the items' vectors",
        "",
        "`python -m ops.bench.precision`",
        "",
        f"HR@{CUTOFF} of what is served by the scores alone (no diversity), of the clicks after the first "
        f"{WARM_UP:.0%}, items new to their user, with BERT in fp32 and in bf16; ± is the standard error of the paired "
        "difference, by user.",
        "",
        "| data | clicks asked for | fp32 | bf16 | bf16 − fp32 |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [row(named(name)) for name in names or DATA]
    return "\n".join(lines)


def main() -> None:
    """Print the section."""
    print(precision_section(of_data(__doc__).parse_args().data))


if __name__ == "__main__":
    main()
