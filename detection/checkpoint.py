"""Weights on disk: written in one step, read without running code, and carrying the network they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detection import foreign
from detection.network import ModelConfig
from detection.untrusted import read_untrusted
from policy_search.cells.errors import InputError
from policy_search.cells.files import replacing

FORMAT = 1


class Checkpoint(NamedTuple):
    """Weights, the network that they fit, and what is known of their making (data, seed, iterations, …).

    `report` says line by line how a foreign file was fitted; it is empty for our own files.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    made: dict[str, Any]
    content_hash: str
    report: str = ""


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
    content = _read(source)
    if not _is_ours(content):
        raise InputError(
            f"{source} is not a weights file of `detect pretrain` or `detect finetune`. Published weights need the "
            "network they were made for: name it with --preset livecell."
        )
    return _own(content, source)


def load_weights(
    path: str | Path, preset: ModelConfig | None = None, allow: Collection[str] = (), *, own: bool = False
) -> Checkpoint:
    """Read any weights of a whole model: our own files, and detectron2's such as LIVECell's published ones.

    Args:
        preset: the network; our own files carry theirs, and it must be this one unless `own` says otherwise.
        allow: what may be wrong with a foreign file: "missing" (fresh weights stand in), "unexpected" (left),
            "shape" (fresh weights stand in).

        own: a file of ours may hold any network.

    Returns:
        A checkpoint whose state has every entry of the network. Of a foreign file, `made` holds its name and, where
        it says so, its iteration.

    Raises:
        InputError: the file cannot be read, or does not fit, or a foreign one came without `preset`.
    """
    source = Path(path)
    content = _read(source)
    if _is_ours(content):
        mine = _own(content, source)
        if not own and preset is not None and mine.config != preset:
            raise InputError(f"{source} holds another network than the preset: leave --preset out, or pretrain one")
        return mine
    if preset is None:
        raise InputError(f"{source} does not say which network it is for: name it, such as --preset livecell")
    found, left = _named(_tensors(content, source), source)
    if not any(name.startswith("roi_heads.") for name in found) and "missing" not in allow:
        raise InputError(
            f"{source} holds a backbone without heads: start `detect pretrain` from it, or allow missing to go on "
            "with heads that know nothing"
        )
    expected = _expected(preset)
    found, constants = _without_constants(found, preset)
    fitted = foreign.fit(found, expected)
    foreign.check(fitted, allow, str(source), "this network")
    state = _completed(fitted.state, preset, expected)
    made: dict[str, Any] = {"command": "foreign", "file": source.name}
    if isinstance(content.get("iteration"), int):
        made["iteration"] = content["iteration"]
    text = foreign.report(fitted, len(expected), [*left, *constants])
    return Checkpoint(preset, state, made, hash_state(state), f"{source.name}: {text}")


def backbone_state(path: str | Path, config: ModelConfig, allow: Collection[str] = ()) -> tuple[dict[str, Tensor], str]:
    """Weights to start `model.backbone.bottom_up` from: ImageNet's (timm, torchvision, the ResNeSt repository, or
    converted for detectron2), or those in a model of either kind that `load_weights` reads.

    Args:
        allow: as for `load_weights`; what is missing or of another shape is then left out of the state, which must be
            loaded with `strict=False`.

    Returns:
        State of `bottom_up`, and the report.

    Raises:
        InputError: the file cannot be read or does not fit.
    """
    source = Path(path)
    content = _read(source)
    found, left = _named(_tensors(content, source), source)
    heads = [name for name in found if not name.startswith(foreign.BACKBONE)]
    own = {name: tensor for name, tensor in found.items() if name.startswith(foreign.BACKBONE)}
    expected = {name: t for name, t in _expected(config).items() if name.startswith(foreign.BACKBONE)}
    fitted = foreign.undeform(foreign.fit(own, expected), expected)
    foreign.check(fitted, allow, str(source), "this backbone")
    state = {name.removeprefix(foreign.BACKBONE): tensor for name, tensor in fitted.state.items()}
    return state, f"{source.name}: {foreign.report(fitted, len(expected), [*left, *heads])}"


def hash_state(state: Mapping[str, Tensor]) -> str:
    """16 hex digits over names, shapes and values: equal weights, equal hash, whatever wrote the file."""
    summary = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        summary.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}\n".encode())
        summary.update(tensor.numpy().tobytes())
    return summary.hexdigest()[:16]


def _read(source: Path) -> dict[str, Any]:
    if not source.is_file():
        raise InputError(f"no weights at {source}. Make them first: detect pretrain --data A172 --out {source.parent}")
    content = read_untrusted(source)
    if not isinstance(content, Mapping):
        raise InputError(f"{source} holds no named weights: expected a state dict, found {type(content).__name__}")
    return dict(content)


def _is_ours(content: Mapping[str, Any]) -> bool:
    return {"format", "model", "config", "made"} <= content.keys()


def _own(content: Mapping[str, Any], source: Path) -> Checkpoint:
    if content["format"] != FORMAT:
        raise InputError(f"{source} has format {content['format']}, this version reads {FORMAT}")
    try:
        config = ModelConfig.model_validate_json(content["config"])
        made = json.loads(content["made"])
        # Out of the mapped file, which may be written anew while the model lives.
        state = {name: tensor.clone() for name, tensor in content["model"].items()}
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:  # pydantic's and json's are ValueErrors
        raise InputError(
            f"{source} is damaged, or of a newer version ({type(error).__name__}): make it again"
        ) from error
    return Checkpoint(config, state, made, hash_state(state))


def _tensors(content: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    """The named tensors, wherever the writer put them, without the prefix that DataParallel adds."""
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    found = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(value)
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
            found[name] = value
    if not found:
        raise InputError(f"{source} holds no named weights: expected a state dict, perhaps under `model`")
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _named(found: Mapping[str, Tensor], source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Entries under detectron2's names, and the names of those that no detector has a place for."""
    if any(name.startswith((foreign.BACKBONE, "roi_heads.", "proposal_generator.")) for name in found):
        return dict(found), []
    if not any(name.startswith(("layer1.", "res2.", "stem.")) for name in found):
        some = ", ".join(list(found)[:3])
        raise InputError(f"{source} holds neither a detectron2 model nor a ResNet or ResNeSt (its entries: {some}, …)")
    names = foreign.backbone_names(found)
    kept = {foreign.BACKBONE + new: found[old] for old, new in names.items() if new is not None}
    return kept, [old for old, new in names.items() if new is None]


def _expected(config: ModelConfig) -> dict[str, Tensor]:
    """Shapes and types of the network's entries, on the meta device."""
    from detection.model import state_entries  # detectron2 takes seconds to import

    return {e.name: torch.empty(e.shape, dtype=getattr(torch, e.dtype), device="meta") for e in state_entries(config)}


def _without_constants(found: Mapping[str, Tensor], config: ModelConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Without the anchors and pixel statistics that older detectron2 saved, where they equal the network's own.

    Others stay, and so count as unexpected: the file is of another model then, whatever its shapes.
    """
    from detection.model import constants

    equal = [
        name
        for name, value in constants(config).items()
        if name in found and found[name].shape == value.shape and torch.allclose(found[name].float(), value, atol=1e-3)
    ]
    return {name: tensor for name, tensor in found.items() if name not in equal}, equal


def _completed(state: dict[str, Tensor], config: ModelConfig, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In the network's order, with fresh weights where something is allowed to be missing."""
    if len(state) == len(expected):
        return {name: state[name] for name in expected}
    from detection.model import build_model

    return {**build_model(config).state_dict(), **state}
