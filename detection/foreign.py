"""Weights of other programs under our names: what is which, what fits, what is adapted. No files, no networks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.cells.errors import InputError

BACKBONE = "backbone.bottom_up."
ALLOWED = ("missing", "unexpected", "shape")

# timm, torchvision and the ResNeSt repository number the modules of a deep stem; bn1 ends either stem.
_DEEP_STEM = {"conv1.0": "conv1_1", "conv1.1": "conv1_1.norm", "conv1.3": "conv1_2", "conv1.4": "conv1_2.norm",
              "conv1.6": "conv1_3", "bn1": "conv1_3.norm"}  # fmt: skip
_PLAIN_STEM = {"conv1": "conv1", "bn1": "conv1.norm"}
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(.+)")
# ImageNet's classifier; a detector has no place for it.
_CLASSIFIER = re.compile(r"(fc|last_linear|classifier)\.(weight|bias)|linear\.(weight|bias)")


class Fit(NamedTuple):
    """How the entries of a file fit the entries of a network.

    Attributes:
        state: what fits, under the network's names and in its types.
        missing: names of the network that the file lacks.
        unexpected: names in the file that the network lacks.
        shape: sentences on entries whose shapes or types differ.
        adapted: sentences on entries that were converted.
    """

    state: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    shape: list[str]
    adapted: list[str]


def backbone_names(names: Iterable[str]) -> dict[str, str | None]:
    """Each name of a timm, torchvision or ResNeSt-repository backbone → the name below `backbone.bottom_up`.

    None for the classifier's entries. Names of no such backbone stay as they are.
    """
    names = list(names)
    deep = any(name.startswith("conv1.6.") for name in names)
    # Without an average pool before it, the shortcut's convolution is the first of its modules.
    pooled = any(".downsample.2." in name for name in names)
    stem = _DEEP_STEM if deep else _PLAIN_STEM
    shortcut = {"downsample.1": "shortcut", "downsample.2": "shortcut.norm"}
    if not pooled:
        shortcut = {"downsample.0": "shortcut", "downsample.1": "shortcut.norm"}
    return {name: _backbone_name(name, stem, shortcut) for name in names}


def _backbone_name(name: str, stem: Mapping[str, str], shortcut: Mapping[str, str]) -> str | None:
    if _CLASSIFIER.fullmatch(name):
        return None
    module, _, tensor = name.rpartition(".")
    if module in stem:
        return f"stem.{stem[module]}.{tensor}"
    block = _BLOCK.fullmatch(module)
    if not block:
        return name
    stage, number, inner = block.groups()
    inner = shortcut.get(inner) or re.sub(r"^bn([1-3])$", r"conv\1.norm", inner)
    return f"res{int(stage) + 1}.{number}.{inner}.{tensor}"


def fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Fit:
    """Entries of a file against the entries of a network, by name.

    Args:
        found: strided CPU tensors of any real type.
        expected: tensors of the right shapes and types; values do not count, they may be on the meta device.
    """
    result = Fit({}, [], [name for name in found if name not in expected], [], [])
    for name, target in expected.items():
        if name in found:
            _take(result, name, found[name], target)
        elif name.endswith(".num_batches_tracked"):
            # Older files lack the counter; with a fixed momentum nothing reads it.
            result.state[name] = torch.zeros((), dtype=target.dtype)
        else:
            result.missing.append(name)
    return result


def _take(result: Fit, name: str, tensor: Tensor, target: Tensor) -> None:
    # Shapes are compared before anything is copied: a file may claim a shape that memory cannot hold.
    if _is_stem(name) and tensor.shape[1:2] == (3,) and target.shape == (tensor.shape[0], 1, *tensor.shape[2:]):
        # On an image of three equal planes the sum over them gives the same result.
        result.state[name] = tensor.to(target.dtype).sum(dim=1, keepdim=True)
        result.adapted.append(f"{name}: 3 input channels summed to 1")
        return
    if tensor.shape != target.shape or tensor.is_floating_point() != target.is_floating_point():
        result.shape.append(f"{name} {_described(tensor)} for {_described(target)}")
        return
    if tensor.dtype != target.dtype:
        result.adapted.append(f"{name}: {_kind(tensor)} to {_kind(target)}")
    result.state[name] = tensor.to(target.dtype, copy=True, memory_format=torch.contiguous_format)


def undeform(result: Fit, expected: Mapping[str, Tensor]) -> Fit:
    """Weights of plain convolutions for a network with deformable ones, such that it starts as the plain network.

    Offsets start at 0; their masks start at sigmoid(0) = 1/2, which doubled weights undo exactly.
    """
    offsets = [name for name in result.missing if ".conv2_offset." in name]
    if not offsets:
        return result
    state = dict(result.state)
    for name in offsets:
        state[name] = torch.zeros(expected[name].shape)
        if name.endswith(".weight"):
            weight = name.replace(".conv2_offset.weight", ".conv2.conv.weight")
            if weight in state:
                state[weight] = 2 * state[weight]
    note = f"{len(offsets)} offsets of deformable convolutions start at 0, the convolutions' weights doubled to suit"
    missing = [name for name in result.missing if name not in offsets]
    return result._replace(state=state, missing=missing, adapted=[*result.adapted, note])


def check(result: Fit, allow: Collection[str], source: str, target: str) -> None:
    """Nothing but what is allowed may be wrong.

    Args:
        allow: any of "missing", "unexpected" and "shape".

    Raises:
        InputError: something else is, or `allow` has another word in it.
    """
    if unknown := sorted(set(allow) - set(ALLOWED)):
        raise InputError(f"cannot allow {unknown[0]!r}: expected any of {', '.join(ALLOWED)}")
    wrong = {kind: getattr(result, kind) for kind in ALLOWED if getattr(result, kind) and kind not in allow}
    if wrong:
        texts = [f"{len(entries)} {_SAID[kind]} ({_some(entries)})" for kind, entries in wrong.items()]
        raise InputError(
            f"{source} does not fit {target}: {'; '.join(texts)}. Name the preset that it was made for, or allow "
            f"{', '.join(wrong)} if the model may start so."
        )


def report(result: Fit, expected: int, left: Collection[str] = ()) -> str:
    """What was matched, adapted, left and started fresh; one line each."""
    lines = [f"matched {expected - len(result.missing) - len(result.shape)} of {expected} weights"]
    lines += [f"adapted: {text}" for text in _shortened(result.adapted)]
    if left:
        lines.append(f"left: {_some(list(left))}")
    if result.unexpected:
        lines.append(f"left although unexpected: {_some(result.unexpected)}")
    if result.missing:
        lines.append(f"missing, so fresh: {_some(result.missing)}")
    if result.shape:
        lines.append(f"of another shape, so fresh: {_some(result.shape)}")
    return "\n".join(lines)


_SAID = {"missing": "missing", "unexpected": "unexpected", "shape": "of another shape"}


def _is_stem(name: str) -> bool:
    return name.removeprefix(BACKBONE) in ("stem.conv1.weight", "stem.conv1_1.weight")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _described(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {_kind(tensor)}"


def _some(entries: list[str], most: int = 3) -> str:
    return ", ".join(entries[:most]) + (f" and {len(entries) - most} more" if len(entries) > most else "")


def _shortened(texts: list[str], most: int = 3) -> list[str]:
    return texts if len(texts) <= most + 1 else [*texts[:most], f"{len(texts) - most} more alike"]
