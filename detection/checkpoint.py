"""Weights on disk: written in one step, read without running code, and carrying the network they belong to."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import nn

from detection.network import ModelConfig
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing

FORMAT = 1


class Checkpoint(NamedTuple):
    """Weights, the network that they fit, and what is known of their making (data, seed, iterations, …)."""

    config: ModelConfig
    state: dict[str, torch.Tensor]
    made: dict[str, Any]
    content_hash: str


def save_checkpoint(path: str | Path, model: nn.Module, config: ModelConfig, made: dict[str, Any]) -> None:
    """Write `model`'s weights; `made` must be JSON-able. An interrupted write leaves the old file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = {
        "format": FORMAT,
        "model": state,
        # Text, because weights-only loading refuses anything but tensors and plain values.
        "config": config.model_dump_json(),
        "made": json.dumps(made, allow_nan=False),
    }
    with replacing(path) as scratch:
        torch.save(content, scratch)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of `save_checkpoint`.

    Raises:
        InputError: no such file, damaged, or not one of ours.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"no weights at {source}. Make them first: detect pretrain --data A172 --out {source.parent}")
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise InputError(f"{source} has format {content['format']}, this version reads {FORMAT}")
        config = ModelConfig.model_validate_json(content["config"])
        return Checkpoint(config, content["model"], json.loads(content["made"]), hash_state(content["model"]))
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValidationError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{source} is not a weights file of `detect pretrain` or `detect finetune`, or it is damaged "
            f"({type(error).__name__}). Make it again or name another with --weights."
        ) from error


def hash_state(state: dict[str, torch.Tensor]) -> str:
    """16 hex digits over names, shapes and values: equal weights, equal hash, whatever wrote the file."""
    summary = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        summary.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}\n".encode())
        summary.update(tensor.numpy().tobytes())
    return summary.hexdigest()[:16]
