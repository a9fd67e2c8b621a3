"""Which transforms, arguments and numbers a policy file may hold, and the error for what it may not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import albumentations as A
from albumentations.core.serialization import NON_SERIALIZABLE_REGISTRY, SERIALIZABLE_REGISTRY, shorten_class_name

from policy_search.augment.limits import check_limits
from policy_search.augment.policy_json import check_plain, shown
from policy_search.cells.errors import PolicyError

PROVENANCE_KEY = "policy_search"
FORMAT_VERSION = "2.0.8"
MAX_NODES = 20_000  # transforms of a file; building takes Albumentations about a millisecond each
MAX_APPLIED = 1_000  # transforms that one image can meet
_MAX_DEPTH = 32
# Containers and the arguments that Albumentations 2.0.8 writes for them besides p and transforms. It writes no channels
# for a SelectiveChannelTransform, and a ReplayCompose returns what the other tools here do not expect.
_CONTAINERS: dict[type, tuple[str, ...]] = {
    A.Compose: ("bbox_params", "keypoint_params", "additional_targets", "is_check_shapes"),
    A.OneOf: (),
    A.Sequential: (),
    A.SomeOf: ("n", "replace"),
    A.RandomOrder: ("n", "replace"),
    A.OneOrOther: (),
}
# What stands for nothing by itself: classes that others are derived from.
_BASES = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "MaxSizeTransform"}
_NEAREST = (0, 6)  # cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT


def check_frame(content: Any, source: str) -> None:
    """The top level of a file. Raises PolicyError: another form or version, or an unknown key."""
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise PolicyError(f"{source}: expected an Albumentations file, an object with the key 'transform'")
    check_plain(content, "", source)
    extra = sorted(set(content) - {"__version__", "transform", PROVENANCE_KEY})
    if extra:
        raise PolicyError(f"{source}: unknown key {shown(extra[0])} at the top level. Remove it.")
    version = content.get("__version__")
    if not isinstance(version, str) or not version.startswith("2.0."):
        raise PolicyError(
            f"{source}: key __version__ is {shown(version)}, expected {FORMAT_VERSION}. Files of other releases name "
            "arguments differently and would silently do something else: write it with Albumentations 2.0.8."
        )


def check_transform(node: Any, source: str) -> None:
    """A whole tree of transforms, of plain JSON types (`check_plain`).

    Raises:
        PolicyError: an unknown class or argument, box parameters, numbers out of their range, masks that would not stay
            labels, or a tree that is too large or does too much to one image.
    """
    count = _count(node, "transform", source)
    if count > MAX_NODES:
        raise PolicyError(f"{source}: {count} transforms, expected up to {MAX_NODES}. Take branches out.")
    applied = _check_node(node, "transform", source, weighted=False)
    if applied > MAX_APPLIED:
        raise PolicyError(
            f"{source}: up to {applied} transforms are applied to one image, expected up to {MAX_APPLIED}. "
            "Take some out, or lower n."
        )


def _count(node: Any, key: str, source: str, depth: int = 0) -> int:
    if depth > _MAX_DEPTH:
        raise PolicyError(f"{source}: key {key}: transforms are nested more than {_MAX_DEPTH} deep")
    children = node.get("transforms", []) if isinstance(node, dict) else []
    if not isinstance(children, list):
        raise PolicyError(f"{source}: key {key}.transforms: expected a list of transforms")
    return 1 + sum(_count(c, f"{key}.transforms[{i}]", source, depth + 1) for i, c in enumerate(children))


def _check_node(node: Any, key: str, source: str, *, weighted: bool) -> int:
    """One transform with what stands below it; gives the most transforms of it that one image can meet."""
    if not isinstance(node, dict) or not isinstance(node.get("__class_fullname__"), str):
        raise PolicyError(f"{source}: key {key}: expected a transform, an object with '__class_fullname__'")
    name = node["__class_fullname__"]
    cls = _class_of(name, key, source)
    arguments = {k: v for k, v in node.items() if k not in ("__class_fullname__", "transforms")}
    if arguments.get("bbox_params") is not None:
        raise PolicyError(f"{source}: key {key}.bbox_params: must be null; boxes are computed from the masks instead")
    if arguments.get("additional_targets") or arguments.get("keypoint_params"):
        raise PolicyError(f"{source}: key {key}: additional_targets and keypoint_params must be empty or null")
    is_container = cls in _CONTAINERS
    known = {*(_CONTAINERS[cls] if is_container else cls.__new__(cls).get_transform_init_args_names()), "p"}
    _check_names(arguments, known, name, f"{source}: key {key}")
    if "p" not in arguments and cls is not A.Compose:
        raise PolicyError(f"{source}: key {key}.p: missing; Albumentations would silently use 0.5. State it.")
    # Of a container, a weight may be any; a transform's p is a probability in any place.
    _check_p(arguments.get("p", 1.0), f"{source}: key {key}.p", weight=weighted and is_container)
    _check_masks(arguments, f"{source}: key {key}")
    check_limits(name, arguments, f"{source}: key {key}")
    if not is_container:
        if "transforms" in node:
            raise PolicyError(f"{source}: key {key}.transforms: {name} holds no other transforms")
        return 1
    children = node.get("transforms", [])
    if not children:
        raise PolicyError(f"{source}: key {key}.transforms: {name} is empty. Use NoOp for a policy that does nothing.")
    applied = [
        _check_node(child, f"{key}.transforms[{index}]", source, weighted=cls is A.OneOf)
        for index, child in enumerate(children)
    ]
    if cls is A.OneOf and not any(child["p"] > 0 for child in children):
        raise PolicyError(f"{source}: key {key}.transforms: every p is 0, expected weights with a positive sum")
    return _most_applied(cls, arguments, applied, f"{source}: key {key}")


def _class_of(name: str, key: str, source: str) -> Any:
    """The class of that name, of those that a file may name: a policy file runs no code of its own."""
    cls: Any = SERIALIZABLE_REGISTRY.get(shorten_class_name(name))
    is_transform = isinstance(cls, type) and issubclass(cls, (A.BasicTransform, A.BaseCompose))
    if not is_transform and name in NON_SERIALIZABLE_REGISTRY:
        raise PolicyError(f"{source}: key {key}: {shown(name)} carries Python code and cannot stand in a policy file")
    if not is_transform:
        near = difflib.get_close_matches(name[:100], SERIALIZABLE_REGISTRY, n=1)
        hint = f" Did you mean {near[0]}?" if near else " Import the package that defines it first."
        raise PolicyError(f"{source}: key {key}: unknown transform {shown(name)}.{hint}")
    # Only of Albumentations' own: another package may derive whatever it likes, and call it so.
    is_base = cls.__name__ in _BASES or cls.__name__.startswith(("Base", "_Base"))
    if (is_base and cls.__module__.startswith("albumentations.")) or (
        issubclass(cls, A.BaseCompose) and cls not in _CONTAINERS
    ):
        raise PolicyError(f"{source}: key {key}: {name} cannot stand in a policy file. Name a transform or one of "
                          f"{', '.join(c.__name__ for c in _CONTAINERS)}.")  # fmt: skip
    return cls


def _check_names(arguments: Iterable[str], known: set[str], name: str, place: str) -> None:
    for argument in sorted(set(arguments) - known):
        near = difflib.get_close_matches(argument[:100], known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(sorted(known))}."
        raise PolicyError(f"{place}.{argument[:100]}: {name} has no such argument. {hint}")


def _check_p(value: Any, place: str, *, weight: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or not (weight or value <= 1):
        wanted = "a weight of 0 or more" if weight else "a probability from 0 to 1"
        raise PolicyError(f"{place}: expected {wanted}, found {shown(value)}")


def _check_masks(arguments: dict[str, Any], place: str) -> None:
    """Masks are labels: a value between two of them, or a fill, would be a cell that nobody drew."""
    interpolation = arguments.get("mask_interpolation")
    if interpolation is not None and interpolation not in _NEAREST:
        raise PolicyError(f"{place}.mask_interpolation: expected 0 (nearest), found {shown(interpolation)}")
    for argument in ("fill_mask", "mask_drop_value"):
        value = arguments.get(argument)
        values = value if isinstance(value, list) else [value]
        if any(v is not None and v != 0 for v in values):
            raise PolicyError(f"{place}.{argument}: expected 0 or null, found {shown(value)}")


def _most_applied(cls: type, arguments: dict[str, Any], applied: list[int], place: str) -> int:
    if cls in (A.OneOf, A.OneOrOther):
        return max(applied)
    if cls not in (A.SomeOf, A.RandomOrder):
        return sum(applied)
    n, replace = arguments.get("n", 1), arguments.get("replace", False)
    if type(n) is not int or n < 1 or type(replace) is not bool:
        raise PolicyError(f"{place}: expected a whole number n of 1 or more, and replace true or false")
    return n * max(applied) if replace else sum(sorted(applied)[-n:])
