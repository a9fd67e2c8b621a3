"""Policies made of policies: one after the other, one of several, one for a share of the images."""

from __future__ import annotations

from collections.abc import Sequence

import albumentations as A

from policy_search.augment.documents import PolicyDocument


def in_turn(*documents: PolicyDocument) -> PolicyDocument:
    """One policy after the other on the same image. Provenance is left behind: it is of the parts."""
    return PolicyDocument.from_compose(A.Compose([t for document in documents for t in _transforms(document)]))


def one_of(documents: Sequence[PolicyDocument]) -> PolicyDocument:
    """An image meets one of the policies, all equally likely. Provenance is left behind: it is of the parts."""
    if not documents:
        raise ValueError("one_of needs at least one policy")
    branches = [A.Sequential(_transforms(document), p=1.0 / len(documents)) for document in documents]
    return PolicyDocument.from_compose(A.Compose([A.OneOf(branches, p=1.0)]))


def for_share(document: PolicyDocument, share: float) -> PolicyDocument:
    """The policy on a share in [0, 1] of the images, drawn for each; nothing on the others."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies in [0, 1], found {share}")
    return PolicyDocument.from_compose(A.Compose([A.Sequential(_transforms(document), p=share)]))


def _transforms(document: PolicyDocument) -> list[A.BasicTransform | A.BaseCompose]:
    return list(document.compose().transforms)
