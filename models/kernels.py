"""What multiplies fastest on this machine: measured at start, since it cannot be known.

With bf16 instructions bf16 is about twice as fast as fp32; without them torch emulates it, a hundred times slower.
With AVX-512, oneDNN's product over weights in its own layout, bias and GELU in the same pass, is a fifth faster than
what ``nn.Linear`` calls (MKL in fp32, oneDNN with a copy of the bias and a second pass in bf16); with AVX2 alone it
may be slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

Precision = Literal["fp32", "bf16"]
Product = Literal["fp32", "bf16", "int8"]
Device = Literal["cpu", "cuda"]

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}

ROWS: Final = 2_048
"""Rows of the product that is measured: a run of the model on a CPU."""

_IN, _OUT = 384, 1_536  # the default model's widest layer
_USERS, _FEW, _ITEMS = 64, 16, 4_096


class PrepackedLinear(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """An ``nn.Linear`` on a CPU with its weights in oneDNN's layout: the same sums, without a copy of the bias.

    Parameters
    ----------
    layer
        The layer whose weights it takes.
    activation
        ``gelu`` (by erf) in the same pass, or ``none``.
    """

    def __init__(self, layer: nn.Linear, activation: Literal["none", "gelu"] = "none") -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.activation = activation
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[…, in_features] → […, out_features]."""
        algorithm = "none" if self.activation == "gelu" else ""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], algorithm)
        return y


def prepack(model: nn.Module) -> None:
    """Put a :class:`PrepackedLinear` in the place of every linear layer; the model's code stays as it is."""
    from transformers.activations import GELUActivation

    for module in list(model.modules()):
        # the one place where a GELU follows by name: BertIntermediate and its kin
        fused = isinstance(getattr(module, "intermediate_act_fn", None), GELUActivation)
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                fuse = fused and name == "dense"
                setattr(module, name, PrepackedLinear(child, "gelu" if fuse else "none"))
        if fused:
            module.intermediate_act_fn = nn.Identity()


def faster_precision(device: Device = "cpu") -> Precision:
    """The faster of fp32 and bf16 here, by a product of the default model's own shape, 2,048 × 384 × 1,536."""
    if _seconds("bf16", 128, device) > 4 * _seconds("fp32", 128, device):
        return "fp32"  # emulated: the whole product would take seconds
    return "bf16" if _seconds("bf16", ROWS, device) < _seconds("fp32", ROWS, device) else "fp32"


def faster_product() -> Product:
    """What the product of users with all items is fastest in on this CPU: 64 and 4,096 vectors of 384."""
    measured: list[tuple[Product, float]] = [("fp32", _product("fp32", _USERS)), *_small_products()]
    return min(measured, key=itemgetter(1))[0]


def _small_products() -> Iterator[tuple[Product, float]]:
    few = _product("fp32", _FEW)
    if _product("bf16", _FEW) < 4 * few:  # else it is emulated: the whole product would take seconds
        yield "bf16", _product("bf16", _USERS)
    if _multiplies_bytes() and _product("int8", _FEW) < 4 * few:
        yield "int8", _product("int8", _USERS)


def _multiplies_bytes() -> bool:
    """Whether torch multiplies int8 here, and rightly where sums are large: some instructions hold them in 16 bits."""
    users, items = torch.full((_FEW, _IN), 127, dtype=torch.int8), torch.full((_ITEMS, _IN), 127, dtype=torch.int8)
    items[::2] = -127
    try:
        made = torch._int_mm(users, items.T)
    except (AttributeError, RuntimeError):  # it is no public name
        return False
    right: bool = torch.equal(made, (users.long() @ items.long().T).int())
    return right


def _product(kind: Product, users: int) -> float:
    """s that it takes."""
    dtype = torch.int8 if kind == "int8" else DTYPES[kind]
    few, many = torch.ones(users, _IN, dtype=dtype), torch.ones(_ITEMS, _IN, dtype=dtype)
    multiply = torch._int_mm if kind == "int8" else torch.mm
    with torch.inference_mode():
        return _best(lambda: multiply(few, many.T))


def prepacked_is_faster(precision: Precision) -> bool:
    """Whether :class:`PrepackedLinear` with its GELU beats ``nn.Linear`` and a GELU on this CPU, and agrees with it."""
    layer = nn.Linear(_IN, _OUT, dtype=DTYPES[precision])
    x = torch.linspace(-1, 1, ROWS * _IN).reshape(ROWS, _IN).to(DTYPES[precision])
    with torch.inference_mode():
        try:
            packed = PrepackedLinear(layer, "gelu")
            agrees = torch.allclose(packed(x), gelu(layer(x)), atol=1e-2, rtol=1e-2)
        except (AttributeError, RuntimeError):  # a torch without oneDNN, or a CPU that it has no kernel for
            return False
        return agrees and _best(lambda: packed(x)) < _best(lambda: gelu(layer(x)))


def _seconds(precision: Precision, rows: int, device: Device) -> float:
    a = torch.ones(rows, _IN, dtype=DTYPES[precision], device=device)
    b = torch.ones(_OUT, _IN, dtype=DTYPES[precision], device=device)

    def product() -> None:
        linear(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        return _best(product)


def _best(action: Callable[[], Any], times: int = 3) -> float:
    """s of the quickest run, after one that sets up the kernel."""
    action()
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best
