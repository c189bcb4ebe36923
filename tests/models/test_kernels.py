from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu
from transformers import BertConfig, BertModel

from models import kernels
from models.kernels import (
    DTYPES,
    Precision,
    PrepackedLinear,
    Product,
    faster_precision,
    faster_product,
    prepack,
    prepacked_is_faster,
)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> Precision:
    if request.param == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bf16 product")
    return request.param


@pytest.mark.parametrize(("bf16_slower_by", "faster"), [(0.5, "bf16"), (1.5, "fp32"), (120.0, "fp32")])
def test_the_faster_precision_is_measured(bf16_slower_by: float, faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def seconds(precision: Precision, rows: int, device: str) -> float:
        asked.append((precision, rows))
        return rows * (bf16_slower_by if precision == "bf16" else 1.0)

    monkeypatch.setattr(kernels, "_seconds", seconds)
    assert faster_precision() == faster
    # where bf16 is emulated the whole product would take seconds, and is not tried
    assert (("bf16", kernels.ROWS) in asked) == (bf16_slower_by < 100)


@pytest.mark.parametrize(
    ("bf16_slower_by", "int8_slower_by", "fastest"),
    [(0.5, 0.7, "bf16"), (0.5, 0.3, "int8"), (1.5, 0.9, "int8"), (1.5, 1.1, "fp32"), (120.0, 120.0, "fp32")],
)
def test_the_fastest_product_is_measured(
    bf16_slower_by: float, int8_slower_by: float, fastest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, slower_by = [], {"fp32": 1.0, "bf16": bf16_slower_by, "int8": int8_slower_by}

    def seconds(kind: Product, users: int) -> float:
        asked.append((kind, users))
        return users * slower_by[kind]

    monkeypatch.setattr(kernels, "_product", seconds)
    monkeypatch.setattr(kernels, "_multiplies_bytes", lambda: True)
    assert faster_product() == fastest
    # what is emulated is not tried on all
    assert {kind for kind, users in asked if users == 64} == {kind for kind in slower_by if slower_by[kind] < 4}


@pytest.mark.parametrize("fault", ["none", "missing", "refused", "saturated"])
def test_int8_is_taken_only_where_torch_multiplies_it_rightly(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if fault == "refused":
            raise RuntimeError("not on this CPU")
        exact = (a.long() @ b.long()).int()
        return exact if fault == "none" else exact.clamp(-(2**15), 2**15 - 1)

    if fault == "missing":
        monkeypatch.delattr(torch, "_int_mm")
    else:
        monkeypatch.setattr(torch, "_int_mm", multiply)
    monkeypatch.setattr(kernels, "_product", lambda kind, users: 0.1 if kind == "int8" else 1.0)
    assert faster_product() == ("int8" if fault == "none" else "fp32")


def test_the_products_are_really_multiplied() -> None:
    assert faster_product() in ("fp32", "bf16", "int8")
    assert kernels._product("fp32", 64) > kernels._product("fp32", 1) > 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_prepacked_weights_give_the_same_sums(precision: Precision, bias: bool, rows: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(384, 384, bias=bias, dtype=DTYPES[precision])
    x = torch.randn(1, rows, 384).to(DTYPES[precision])
    with torch.inference_mode():
        exact, tolerance = layer.double()(x.double()), {"fp32": 1e-5, "bf16": 2e-2}[precision]
        packed = PrepackedLinear(layer.to(DTYPES[precision]))(x)
        fused = PrepackedLinear(layer, "gelu")(x)
    assert packed.dtype == x.dtype
    torch.testing.assert_close(packed.double(), exact, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(fused.double(), gelu(exact), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new"])
def test_a_prepacked_model_computes_the_same(activation: str) -> None:
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_attention_heads=4,
            num_hidden_layers=2,
            intermediate_size=64,
            hidden_act=activation,
        )
    ).eval()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        expected = model(input_ids=ids).last_hidden_state
        prepack(model)
        torch.testing.assert_close(model(input_ids=ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
    assert not any(type(module) is nn.Linear for module in model.modules())


def test_a_torch_without_the_kernel_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self, *_: object) -> None:
            raise AttributeError("_linear_pointwise")

    monkeypatch.setattr(kernels, "PrepackedLinear", Missing)
    assert not prepacked_is_faster("fp32")


def test_a_kernel_that_disagrees_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_best", lambda action: action().sum())
    monkeypatch.setattr(PrepackedLinear, "forward", lambda self, x: torch.full((len(x), 1_536), -99.0))
    assert not prepacked_is_faster("fp32")
