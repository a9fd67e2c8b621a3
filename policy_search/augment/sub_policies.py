"""The sub-policies of a searched policy, and new policies of them: in sequence, or one of them by other weights.

A searched policy draws one of its sub-policies for each image. The sub-policies themselves are worth more than that
one way of mixing them: a stack applies several to one image, a choice prefers some to others. What a policy does around
its mixture stays (a policy of target mode flips and scales first, and leaves a share of the images alone).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import albumentations as A

from policy_search.augment.documents import PolicyDocument, Provenance
from policy_search.cells.errors import PolicyError

Transforms = list[A.BasicTransform | A.BaseCompose]


@dataclass(frozen=True)
class SubPolicy:
    """One sub-policy.

    Attributes:
        weight: how often the policy draws it, 0 … 1; those of a policy sum to 1.
        document: it alone, always applied, without what the policy does around its mixture.
    """

    weight: float
    document: PolicyDocument


@dataclass(frozen=True)
class _Mixture:
    """A policy taken apart: `before` on every image, then on a `share` of them one branch, drawn by `weights`."""

    before: Transforms
    share: float
    branches: list[Transforms]
    weights: list[float]


def split(document: PolicyDocument) -> tuple[SubPolicy, ...]:
    """The sub-policies, heaviest first; equally heavy ones in the file's order.

    Taken apart is what `relaxed.export` and `relaxed.sized` write: `OneOf` over `Sequential`s, possibly for a share of
    the images and with transforms before it. Any other policy is one sub-policy of weight 1.
    """
    mixture = _taken_apart(document)
    return tuple(
        SubPolicy(weight, PolicyDocument.from_compose(A.Compose([A.Sequential(branch, p=1.0)])))
        for branch, weight in zip(mixture.branches, mixture.weights, strict=True)
    )


def stack_of(document: PolicyDocument, p: Sequence[float]) -> PolicyDocument:
    """The sub-policies in sequence, heaviest first, each with its probability. Those of probability 0 are left out.

    Args:
        document: a searched policy; see `split`.
        p: in [0, 1], for the heaviest sub-policy, the next, …. A policy with more sub-policies goes without its
            lightest ones; with fewer, the last probabilities mean nothing.

    Returns:
        The policy, without provenance: it is of the parts.

    Raises:
        PolicyError: a probability outside [0, 1], or none at all.
    """
    if not p or not all(0.0 <= share <= 1.0 for share in p):
        raise PolicyError(f"probabilities of sub-policies must be in [0, 1], at least one of them, got {list(p)}")
    mixture = _taken_apart(document)
    kept = [(branch, share) for branch, share in zip(mixture.branches, p, strict=False) if share > 0]
    return _put_together(mixture, [A.Sequential(branch, p=float(share)) for branch, share in kept])


def choice_of(document: PolicyDocument, weights: Sequence[float]) -> PolicyDocument:
    """One of the sub-policies, drawn by these weights instead of the policy's own. Those of weight 0 are left out.

    Args:
        document: a searched policy; see `split`.
        weights: 0 or more with a positive sum, for the heaviest sub-policy, the next, …. A policy with more
            sub-policies goes without its lightest ones. With fewer, the last weights mean nothing and the others are
            scaled up; where only those that mean nothing are positive, all sub-policies weigh the same.

    Returns:
        The policy, without provenance: it is of the parts.

    Raises:
        PolicyError: a negative or infinite weight, or no positive one.
    """
    if not all(0.0 <= weight < float("inf") for weight in weights) or not sum(weights) > 0:
        raise PolicyError(f"weights of sub-policies must be 0 or more with a positive sum, got {list(weights)}")
    mixture = _taken_apart(document)
    known = list(weights[: len(mixture.branches)])
    total = sum(known)
    if total == 0:
        known, total = [1.0] * len(known), float(len(known))
    kept = [(branch, weight / total) for branch, weight in zip(mixture.branches, known, strict=False) if weight > 0]
    if len(kept) == 1:  # as the export writes a policy of one sub-policy
        return _put_together(mixture, [A.Sequential(kept[0][0], p=1.0)])
    # In OneOf a child's p is its weight (design 4.4).
    return _put_together(mixture, [A.OneOf([A.Sequential(branch, p=weight) for branch, weight in kept], p=1.0)])


def _put_together(mixture: _Mixture, inner: Transforms) -> PolicyDocument:
    within = inner if mixture.share == 1.0 or not inner else [A.Sequential(inner, p=mixture.share)]
    return PolicyDocument.from_compose(A.Compose([*mixture.before, *within] or [A.NoOp(p=1.0)]))


def _taken_apart(document: PolicyDocument) -> _Mixture:
    return _parts(json.dumps(document.transform))


@lru_cache(maxsize=2)  # a study builds many policies over the same one; its transforms are only ever written down
def _parts(transform: str) -> _Mixture:
    compose = PolicyDocument(json.loads(transform), Provenance()).compose()
    transforms: Transforms = list(compose.transforms)
    before, last = transforms[:-1], transforms[-1]
    if compose.p != 1.0:
        return _mixture([], 1.0, [([A.Sequential(transforms, p=compose.p)], 1.0)])
    if not before:
        return _mixture([], 1.0, _branches(last) or [(transforms, 1.0)])
    inner = _branches(last.transforms[0]) if isinstance(last, A.Sequential) and len(last.transforms) == 1 else None
    # Any policy may end in a Sequential; one for a share of the images holds what a search exports, stages of choices.
    if inner is not None and all(isinstance(stage, A.OneOf) for branch, _ in inner for stage in branch):
        return _mixture(before, last.p, inner)
    return _mixture([], 1.0, [(transforms, 1.0)])


def _mixture(before: Transforms, share: float, branches: list[tuple[Transforms, float]]) -> _Mixture:
    return _Mixture(before, share, [branch for branch, _ in branches], [weight for _, weight in branches])


def _branches(node: A.BasicTransform | A.BaseCompose) -> list[tuple[Transforms, float]] | None:
    """Branches and weights, heaviest first, if `node` is a mixture or one sub-policy; None where it is neither."""
    if isinstance(node, A.Sequential) and node.p == 1.0:
        return [(list(node.transforms), 1.0)]
    if not isinstance(node, A.OneOf) or node.p != 1.0 or not all(isinstance(t, A.Sequential) for t in node.transforms):
        return None
    heaviest_first = sorted(zip(node.transforms, node.transforms_ps, strict=True), key=lambda pair: -pair[1])
    return [(list(branch.transforms), float(weight)) for branch, weight in heaviest_first if weight > 0]
