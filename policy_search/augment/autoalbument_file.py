"""The frame of a policy file of AutoAlbument 0.4.0: its release, its nesting, and the steps beside the policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policy_search.augment.policy_json import shown
from policy_search.cells.errors import PolicyError

CONTAINERS = ("Compose", "OneOf", "Sequential")


def release(content: Any, source: str) -> str:
    """The release of Albumentations that wrote it. Raises PolicyError: not a policy, or of another release."""
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise PolicyError(f"{source}: expected a policy of AutoAlbument, an object with the key 'transform'")
    version = content.get("__version__")
    if not isinstance(version, str) or not re.fullmatch(r"(0\.5|1\.[0-3])(\.\d+)?", version):
        raise PolicyError(
            f"{source}: key __version__ is {shown(version)}; AutoAlbument 0.4.0 wrote its policies with Albumentations "
            "0.5 to 1.3. A file of 2.0 needs no conversion."
        )
    return version


def policy_node(root: dict[str, Any], source: str) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """AutoAlbument writes Compose([preprocessing…, OneOf(sub-policies), Normalize, ToTensorV2])."""
    if shortened(root, f"{source}: key transform")["__class_fullname__"] != "Compose":
        raise PolicyError(f"{source}: key transform: expected a Compose, found {shown(root['__class_fullname__'])}")
    if root.get("p") != 1.0 or any(root.get(k) for k in ("bbox_params", "keypoint_params", "additional_targets")):
        raise PolicyError(f"{source}: key transform: AutoAlbument writes p 1 and no boxes, keypoints or more targets")
    children = root.get("transforms")
    steps = [
        shortened(child, f"{source}: key transform.transforms[{i}]")
        for i, child in enumerate(children if isinstance(children, list) else [])
    ]
    found = [i for i, step in enumerate(steps) if step["__class_fullname__"] == "OneOf"]
    if len(found) != 1:
        raise PolicyError(
            f"{source}: key transform.transforms: expected one OneOf with the sub-policies, as AutoAlbument writes "
            f"it, found {len(found)}"
        )
    return steps[found[0]], f"transform.transforms[{found[0]}]", steps[: found[0]] + steps[found[0] + 1 :]


def white_level(beside: Sequence[Mapping[str, Any]], source: str) -> tuple[float, list[str]]:
    """The largest pixel value of the images searched on, and a note per step that is no part of the policy."""
    white = 255.0
    notes = []
    for step in beside:
        name = step["__class_fullname__"]
        if name in CONTAINERS:
            raise PolicyError(f"{source}: expected only single transforms beside the sub-policies, found {name}")
        if name == "Normalize":
            white = 1.0 if step.get("max_pixel_value") == 1 else 255.0
        shown = {
            k: v for k, v in step.items() if k not in ("__class_fullname__", "always_apply", "p") and v is not None
        }
        text = ", ".join(f"{k}={_rounded(v)}" for k, v in shown.items())
        notes.append(f"Left out, for your own data loading: {name[:100]}({text[:500]}).")
    if white == 1.0:
        notes.append("Written for images in 0 … 1: grey levels are converted, the policy works on either kind.")
    return white, notes


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def children_of(node: Any, wanted: str, place: str) -> Iterator[tuple[Any, str]]:
    """The children of a container of the wanted class, each with its place."""
    name = shortened(node, place)["__class_fullname__"]
    if name != wanted:
        raise PolicyError(f"{place}: expected {wanted}, as AutoAlbument writes it, found {shown(name)}")
    extra = sorted(set(node) - {"__class_fullname__", "p", "transforms", "always_apply"})
    if extra:
        raise PolicyError(f"{place}.{extra[0][:100]}: {wanted} has no such argument. Remove it.")
    if wanted == "OneOf" and node.get("p") != 1.0:
        raise PolicyError(f"{place}.p: expected 1, as AutoAlbument writes it, found {shown(node.get('p'))}")
    children = node.get("transforms")
    if not isinstance(children, list) or not children:
        raise PolicyError(f"{place}.transforms: expected a list of transforms, and at least one")
    for index, child in enumerate(children):
        yield child, f"{place}.transforms[{index}]"


def shortened(node: Any, place: str) -> dict[str, Any]:
    """The node with its class path shortened: releases before 1.0 wrote `albumentations.….Name`."""
    if not isinstance(node, dict) or not isinstance(node.get("__class_fullname__"), str):
        raise PolicyError(f"{place}: expected a transform, an object with '__class_fullname__'")
    path = node["__class_fullname__"]
    return {**node, "__class_fullname__": path.rsplit(".", 1)[-1] if path.startswith("albumentations.") else path}


def weight_of(node: Mapping[str, Any], place: str) -> float:
    """The p of a branch: its weight. Raises PolicyError: not a number from 0 to 1."""
    value = node.get("p")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise PolicyError(f"{place}.p: expected a probability from 0 to 1, found {shown(value)}")
    return float(value)
