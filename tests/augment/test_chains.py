"""Policies made of policies: their order and their shares, by what they do to one image."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest

from policy_search.augment import PolicyDocument, Provenance
from policy_search.augment.chains import for_share, in_turn, one_of


def compose(*transforms: A.BasicTransform | A.BaseCompose) -> PolicyDocument:
    return PolicyDocument.from_compose(A.Compose(list(transforms)), Provenance(name="part"))


def brighter(by: float) -> A.Sequential:
    return A.Sequential([A.RandomBrightnessContrast((by, by), (0.0, 0.0), p=1.0)], p=1.0)


def shares(document: PolicyDocument, draws: int = 2000) -> dict[int, float]:
    """Grey level of a black image -> how often."""
    policy = document.compose()
    policy.set_random_seed(0)
    levels = [int(policy(image=np.zeros((2, 2), np.uint8))["image"][0, 0]) for _ in range(draws)]
    return {level: levels.count(level) / draws for level in sorted(set(levels))}


def test_one_of_is_drawn_equally() -> None:
    """One adds 51 in one of two branches or 102 in the other, the other adds 204: shares 1/4, 1/4, 1/2."""
    merged = one_of([compose(A.OneOf([brighter(0.2), brighter(0.4)], p=1.0)), compose(brighter(0.8))])
    assert shares(merged) == pytest.approx({51: 0.25, 102: 0.25, 204: 0.5}, abs=0.04)
    assert merged.provenance.name == ""
    with pytest.raises(ValueError, match="at least one"):
        one_of([])


def test_a_share_of_the_images() -> None:
    part = compose(brighter(0.2), brighter(0.2))
    assert shares(for_share(part, 0.3)) == pytest.approx({0: 0.7, 102: 0.3}, abs=0.04)
    assert shares(for_share(part, 0.0), 50) == {0: 1.0}
    assert shares(for_share(part, 1.0), 50) == {102: 1.0}
    with pytest.raises(ValueError, match=r"in \[0, 1\], found 1.5"):
        for_share(part, 1.5)


def test_in_turn_keeps_the_order() -> None:
    """Inverting and then adding 51 to black gives white; the other way round 204."""
    invert, add = compose(A.InvertImg(p=1.0)), compose(brighter(0.2))
    assert shares(in_turn(invert, add), 1) == {255: 1.0}
    assert shares(in_turn(add, invert), 1) == {204: 1.0}
