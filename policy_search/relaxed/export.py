"""Learnt parameters as a plain Albumentations policy: the same choices, gates and ranges, no code of ours needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray

from policy_search.augment import PolicyDocument, Provenance
from policy_search.relaxed.operations import Emission
from policy_search.relaxed.policy import RelaxedPolicy, Table
from policy_search.relaxed.search import SearchResult


def to_compose(
    policy: RelaxedPolicy, fill: int, *, holes: int = 1, extent: float = 1.0, least: float = 0.01
) -> A.Compose:
    """The policy as Albumentations runs it: one of P sub-policies, S stages in turn, one of K operations in each.

    Args:
        policy: what was learnt.
        fill: grey level (0 to 255) of what a warp or a hole uncovers.
        holes: holes per cutout; for images larger than the searched crop, their area over the crop's.
        extent: their side over the crop's, so that light falls as steeply per pixel as it was searched.
        least: operations with a smaller share of their stage are left out, and the others' shares grow to make up.

    In `OneOf` a child's p is its weight, so an operation with a gate is wrapped: `Sequential([operation(p=gate)],
    p=weight)`.
    """
    with torch.no_grad():
        table = policy.table()
    emission = Emission(fill, holes, extent)
    branches = [
        A.Sequential([_stage(policy, table, p, s, emission, least) for s in range(policy.stages)], p=1.0)
        for p in range(policy.sub_policies)
    ]
    return A.Compose(branches if len(branches) == 1 else [A.OneOf(branches, p=1.0)])


def _stage(policy: RelaxedPolicy, table: Table, p: int, s: int, emission: Emission, least: float) -> A.BaseCompose:
    weights = table.weight[p, s]
    # The heaviest one stays whatever `least` says: an empty stage would raise.
    bound = min(least, weights.max().item())
    kept = [k for k in range(len(weights)) if weights[k] >= bound and weights[k] > 0]
    children = []
    for k in kept:
        low, high = (_tidy(entry[p, s, k].item()) for entry in (table.low, table.high))
        transform = policy.operations[k].emit(low, high, emission)
        transform.p = _tidy(table.gate[p, s, k].item())
        children.append(A.Sequential([transform], p=_tidy(weights[k].item())))
    return A.OneOf(children, p=1.0)


def _tidy(value: float) -> float:
    """Five significant digits: what a person can read, far finer than what a search can tell."""
    return float(f"{value:.5g}")


def export_policy(
    result: SearchResult, provenance: Provenance | None = None, *, images: Sequence[NDArray[np.uint8]] = ()
) -> PolicyDocument:
    """The policy file of a search, ready to save.

    Args:
        result: of `search_policy` or `search_target`.
        provenance: data, study and the like; family and seed are filled in where they are missing.
        images: (H, W) or (H, W, 3), of the size that the policy is for. It was searched on crops: an image gets as many
            holes per area, and light as steep per pixel. Without any it is for images as large as the crops.
    """
    provenance = provenance or Provenance()
    found = {"family": provenance.family or "searched", "seed": result.seed}
    known = provenance.model_dump(exclude_none=True)
    filled = Provenance.model_validate({**found, **known, "family": found["family"]})
    areas = [image.shape[0] * image.shape[1] / result.settings.crop**2 for image in images] or [1.0]
    ratio = sum(areas) / len(areas)
    compose = to_compose(result.policy, result.statistics.median, holes=max(1, round(ratio)), extent=math.sqrt(ratio))
    return PolicyDocument.from_compose(compose, filled)
