"""The naive strategies of the paper (section 4.2) as policy documents.

Single strategies are always applied (p = 1): every augmented copy of the 3× training set is a changed image. The paper
gives no factors; these are ours: crops keep a fraction of 0.5 to 1, colour changes by ±30 %, copy-paste images are
scaled by 0.5 to 1.5. Where scaling shrinks an image, the border is mid-grey: LIVECell's images have mean 0.50.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import albumentations as A

from policy_search.augment.documents import PolicyDocument, Provenance
from policy_search.augment.transforms import CopyPaste, crop_resize, lateral_stretch
from policy_search.cells.errors import PolicyError

GREY = 128
PASTE_PROBABILITY = 0.25  # paper 4.2.5
SCALES = (0.5, 1.5)


def _flip(p: float) -> A.BaseCompose:
    return A.OneOf([A.HorizontalFlip(p=1.0), A.VerticalFlip(p=1.0)], p=p)


def _color_jitter(p: float) -> A.BasicTransform:
    return A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.7, 1.3), hue=(0.0, 0.0), p=p)


def _simple_copy_paste(p: float) -> A.BasicTransform:
    return CopyPaste(paste_probability=PASTE_PROBABILITY, p=p)


def _scaled_copy_paste(p: float) -> A.BaseCompose:
    scaled = A.Affine(scale=SCALES, keep_ratio=True, fill=GREY, fill_mask=0, p=1.0)
    paste = CopyPaste(paste_probability=PASTE_PROBABILITY, donor_scale=SCALES, p=1.0)
    return A.Sequential([scaled, paste], p=p)


# In the paper's order, which is also the order of the stack.
SINGLE_STRATEGIES: dict[str, Callable[[float], A.BasicTransform | A.BaseCompose]] = {
    "flip": _flip,
    "lateral_stretch": lambda p: lateral_stretch(p=p),
    "crop": lambda p: crop_resize(p=p),
    "color_jitter": _color_jitter,
    "simple_copy_paste": _simple_copy_paste,
    "scaled_copy_paste": _scaled_copy_paste,
}


def _document(name: str, family: str, transforms: list[A.BasicTransform | A.BaseCompose]) -> PolicyDocument:
    return PolicyDocument.from_compose(A.Compose(transforms), Provenance(name=name, family=family))


def _check_strategies(named: Mapping[str, float]) -> None:
    unknown = sorted(set(named) - set(SINGLE_STRATEGIES))
    if unknown:
        raise PolicyError(f"unknown strategy {unknown[0]!r}: expected {', '.join(SINGLE_STRATEGIES)}")


def none() -> PolicyDocument:
    """The identity: training on untouched copies."""
    return _document("none", "naive", [A.NoOp(p=1.0)])


def single(name: str) -> PolicyDocument:
    """One of the six single strategies."""
    return _document(name, "naive", [SINGLE_STRATEGIES[name](1.0)])


def stacked(p: float | Mapping[str, float], name: str | None = None) -> PolicyDocument:
    """All six in sequence, each with probability p in [0, 1] (paper 4.2.7).

    Args:
        p: the same for all, or by strategy; strategies not named have p = 0.
        name: of the policy; made of p when None.

    Raises:
        PolicyError: an unknown strategy, or a probability outside [0, 1].
    """
    each = dict(p) if isinstance(p, Mapping) else dict.fromkeys(SINGLE_STRATEGIES, p)
    _check_strategies(each)
    for value in each.values():
        if not 0.0 <= value <= 1.0:
            raise PolicyError(f"the stacked probability must be in [0, 1], got {value}")
    made = [make(each.get(key, 0.0)) for key, make in SINGLE_STRATEGIES.items()]
    return _document(name or ("stacked" if isinstance(p, Mapping) else f"stacked_p{p:.3f}"), "stacked", made)


def choice(weights: Mapping[str, float], name: str = "choice") -> PolicyDocument:
    """One of the six, drawn with the given weights (paper 4.2.8). Zero weights are left out.

    Raises:
        PolicyError: an unknown strategy, a negative weight, or no positive one.
    """
    _check_strategies(weights)
    if any(w < 0 for w in weights.values()) or sum(weights.values()) <= 0:
        raise PolicyError(f"choice weights must be 0 or more with a positive sum, got {dict(weights)}")
    total = sum(weights.values())
    branches = [
        A.Sequential([make(1.0)], p=weights[key] / total)
        for key, make in SINGLE_STRATEGIES.items()
        if weights.get(key, 0.0) > 0
    ]
    return _document(name, "choice", [A.OneOf(branches, p=1.0)])


BASELINES: dict[str, Callable[[], PolicyDocument]] = {
    "none": none,
    **{name: (lambda name=name: single(name)) for name in SINGLE_STRATEGIES},  # type: ignore[misc]
    "stacked_p0.5": lambda: stacked(0.5, "stacked_p0.5"),
    "stacked_p0.8": lambda: stacked(0.8, "stacked_p0.8"),
    "random_choice": lambda: choice(dict.fromkeys(SINGLE_STRATEGIES, 1.0), "random_choice"),
}


def baseline(name: str) -> PolicyDocument:
    """A naive strategy by its name.

    Raises:
        PolicyError: no such strategy.
    """
    if name not in BASELINES:
        raise PolicyError(f"unknown naive strategy {name!r}: expected one of {', '.join(BASELINES)}")
    return BASELINES[name]()
