"""Arithmetic in sixteen bits: what a device can do, and which parts of the network stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from policy_search.cells.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(asked: str, device: str) -> Precision:
    """`auto` as what `device` is good at: bf16 where it has instructions for it, fp16 on older GPUs, fp32 elsewhere.

    Raises:
        InputError: not a precision, or one that the device cannot train in.
    """
    if asked == "auto":
        return _best(device)
    for known in get_args(Precision):
        if asked == known:
            check_precision(known, device)
            return known
    raise InputError(f"--precision: expected auto, {', '.join(get_args(Precision))}, got {asked!r}")


def check_precision(precision: Precision, device: str) -> None:
    """Raises:
    InputError: fp16 on a processor: gradients need scaling there that torch offers for GPUs alone.
    """
    if precision == "fp16" and not device.startswith("cuda"):
        raise InputError(f"precision fp16 needs a GPU, and the device is {device}: choose --precision bf16 or fp32")


def _best(device: str) -> Precision:
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities()
    # Without an instruction of its own bf16 is emulated, which is slower than fp32.
    return "bf16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")) else "fp32"


def autocast(precision: Precision, device: str) -> torch.autocast:
    """Convolutions and matrix products in `precision`; nothing for fp32. Weights stay float32."""
    kind = torch.device(device).type
    dtype = _TYPES.get(precision)
    return torch.autocast(kind, dtype=dtype, enabled=dtype is not None)


def scaler_of(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Scales losses so that small gradients survive fp16; passes everything through otherwise."""
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")


@contextmanager
def float32_heads(model: nn.Module) -> Iterator[None]:
    """Within, what the heads of `model` give out is float32.

    Box decoding, the choice of proposals, non-maximum suppression and the sums in the losses start from these outputs.
    In bfloat16 a coordinate near 500 would be known to ± 2 pixels.
    """
    heads = model.roi_heads
    parts = [model.proposal_generator.rpn_head, *heads.box_predictor, heads.mask_head.predictor]  # type: ignore
    hooks = [part.register_forward_hook(lambda _, __, output: _float32(output)) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _float32(output: Any) -> Any:
    """Every half-precision tensor in nested lists and tuples as float32."""
    if isinstance(output, torch.Tensor):
        return output.float() if output.dtype in _TYPES.values() else output
    if isinstance(output, list | tuple):
        return type(output)(_float32(item) for item in output)
    return output
