"""A policy file of AutoAlbument 0.4.0 as one of ours, in either of two readings, and what sets the two apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import albumentations as A

from policy_search.augment.autoalbument_file import children_of, policy_node, release, shortened, weight_of, white_level
from policy_search.augment.autoalbument_operations import MIN_SCALE, Leaf, Reading, convert_leaf
from policy_search.augment.documents import PolicyDocument, Provenance
from policy_search.augment.policy_json import check_plain, read_policy_json, readable
from policy_search.cells.errors import PolicyError

READINGS: tuple[Reading, ...] = get_args(Reading)

# Operations whose file does not do what the search did: remark → (operation, the file does, the search did).
DIFFERENCES = {
    "contrast": ("RandomContrast", "pixels · (1 + v)", "pixels · v"),
    "scale": ("Scale", "zoom by 1 + v", "zoom by v"),
    "one hole": ("Cutout, 1 hole", "1 hole", "0 or 1 holes: the file does not say, 1 is kept"),
    "unseen": ("Cutout, never sampled", "holes of 1×1 pixel", "no search: these values are the random start"),
}
# What a reader should know of a converted policy: remark → sentence.
REMARKS = {
    "channels": "ShiftRGB: on one-channel images the red shift moves the grey value, green and blue do nothing.",
    "mirror": "Warps mirror the border: near it cells show twice, the second time under the same instance id.",
    "holes": "Cutout: hole sizes are in pixels of the images searched on; the mask keeps what is covered.",
    "tiny": f"Scale: zooms below {MIN_SCALE} are raised to it; warping smaller ones takes minutes to hours.",
}


@dataclass(frozen=True)
class Difference:
    """An operation that was searched as one thing and written as another.

    Attributes:
        operation: AutoAlbument's name.
        emitted, searched: what the file does, and what the search did; v is the value in the file.
        count: how often it stands in the file.
        applications: how often an augmented image meets it, on average.
    """

    operation: str
    emitted: str
    searched: str
    count: int
    applications: float


@dataclass(frozen=True)
class Conversion:
    """A converted policy, with what its user has to know."""

    document: PolicyDocument
    reading: Reading
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def convert_file(path: str | Path, reading: Reading = "searched") -> Conversion:
    """Read and convert a policy file. Raises PolicyError: see `convert_policy`."""
    file = Path(path)
    remedy = "Name AutoAlbument's policy JSON."
    try:
        content, data = read_policy_json(file, remedy)
    except FileNotFoundError:
        raise PolicyError(f"cannot read {file}: No such file. {remedy}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    return convert_policy(content, reading, source=str(file), name=readable(file.stem), sha256=sha256)


def convert_policy(
    content: Any, reading: Reading = "searched", *, source: str = "policy", name: str = "", sha256: str | None = None
) -> Conversion:
    """The policy of a parsed file, ready for Albumentations 2.0.8.

    Weights are kept as they are: AutoAlbument multiplies an operation's weight by its gate and fills up with `NoOp`,
    and `OneOf` takes a child's p as its weight in its Albumentations as in ours. Branches of weight 0 are left out.

    Args:
        content: the parsed JSON.
        reading: `searched`: what was trained and scored; `emitted`: what the file did in its own Albumentations.
        source: named in errors, usually the file.
        name: what tables call the policy.
        sha256: of the file, for the provenance.

    Raises:
        PolicyError: not a file of AutoAlbument, an unknown operation or argument, a number out of its range.
    """
    if reading not in READINGS:
        raise PolicyError(f"unknown reading {reading!r}: expected {' or '.join(READINGS)}")
    check_plain(content, "", source)
    version = release(content, source)
    policy, key, beside = policy_node(content["transform"], source)
    white, notes = white_level(beside, source)
    branches = []
    for node, place in children_of(policy, "OneOf", f"{source}: key {key}"):
        stages = [
            [convert_leaf(shortened(leaf, at), at, reading, white) for leaf, at in children_of(stage, "OneOf", where)]
            for stage, where in children_of(node, "Sequential", place)
        ]
        if (weight := weight_of(node, place)) > 0:
            branches.append((weight, stages))
    seen = _mark_unseen(branches)
    outer = [A.Sequential([_one_of(stage, source) for stage in stages], p=weight) for weight, stages in seen]
    if not outer:
        raise PolicyError(f"{source}: key {key}: every branch has weight 0. Give the file as AutoAlbument wrote it.")
    provenance = Provenance.model_validate(
        {
            "name": name, "family": "searched", "converted_from": f"AutoAlbument (Albumentations {version})",
            "reading": reading, "source": readable(Path(source).name), "source_sha256": sha256,
        }
    )  # fmt: skip
    document = PolicyDocument.from_compose(A.Compose([A.OneOf(outer, p=1.0)]), provenance)
    remarks = {r for _, stages in seen for stage in stages for leaf in stage for r in leaf.remarks}
    notes = [*notes, *(text for remark, text in REMARKS.items() if remark in remarks)]
    return Conversion(document, reading, tuple(_differences(seen)), tuple(notes))


_Branches = list[tuple[float, list[list[Leaf]]]]


def _one_of(stage: Sequence[Leaf], source: str) -> A.OneOf:
    kept = [leaf for leaf in stage if leaf.weight > 0]
    if not kept:
        raise PolicyError(
            f"{source}: a stage has weight 0 for every operation. Give the file as AutoAlbument wrote it."
        )
    for leaf in kept:
        leaf.transform.p = leaf.weight
    return A.OneOf([leaf.transform for leaf in kept], p=1.0)


def _mark_unseen(branches: _Branches) -> _Branches:
    """Mark the cutouts of sub-policies the search never ran.

    AutoAlbument learns the size of the images when a sub-policy is first applied; until then it writes holes of one
    pixel. A sub-policy with no other cutout, in a file that has larger ones elsewhere, was never applied.
    """

    def points(stages: list[list[Leaf]]) -> list[bool]:
        return ["point" in leaf.remarks for stage in stages for leaf in stage if leaf.operation == "Cutout"]

    if all(all(points(stages)) for _, stages in branches):
        return branches
    marked: _Branches = []
    for weight, stages in branches:
        unseen = all(points(stages))
        marked.append((weight, [[_unseen(leaf) if unseen else leaf for leaf in stage] for stage in stages]))
    return marked


def _unseen(leaf: Leaf) -> Leaf:
    if leaf.operation != "Cutout":
        return leaf
    return Leaf(leaf.operation, leaf.transform, leaf.weight, (leaf.remarks - {"one hole"}) | {"unseen"})


def _differences(branches: _Branches) -> Iterator[Difference]:
    total = sum(weight for weight, _ in branches)
    for remark, (operation, emitted, searched) in DIFFERENCES.items():
        count, applications = 0, 0.0
        for weight, stages in branches:
            for stage in stages:
                among = sum(leaf.weight for leaf in stage)
                hit = [leaf.weight for leaf in stage if remark in leaf.remarks]
                count += len(hit)
                applications += weight / total * sum(hit) / among
        if count:
            yield Difference(operation, emitted, searched, count, applications)
