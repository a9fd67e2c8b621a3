"""What a policy is: Albumentations documents, the naive strategies, and their application to images with instances.

Importing this package registers `CopyPaste` with Albumentations, so that `albumentations.load` can read policies that
paste cells. For that alone it needs Albumentations and nothing else; the other names are loaded when first used, and
none of them loads torch or detectron2.
"""

import importlib
from typing import TYPE_CHECKING, Any

import policy_search.augment._albumentations  # noqa: F401  # first: it decides how Albumentations is loaded
from policy_search.augment.transforms import CopyPaste, crop_resize, lateral_stretch

if TYPE_CHECKING:
    from policy_search.augment.apply import Augmenter, Donor, apply_policy
    from policy_search.augment.baselines import BASELINES, SINGLE_STRATEGIES, baseline, choice, stacked
    from policy_search.augment.documents import PolicyDocument, Provenance, load_policy
    from policy_search.cells.errors import PolicyError

__all__ = [
    "BASELINES",
    "SINGLE_STRATEGIES",
    "Augmenter",
    "CopyPaste",
    "Donor",
    "PolicyDocument",
    "PolicyError",
    "Provenance",
    "apply_policy",
    "baseline",
    "choice",
    "crop_resize",
    "lateral_stretch",
    "load_policy",
    "stacked",
]

_HOMES = {
    "policy_search.augment.apply": ("Augmenter", "Donor", "apply_policy"),
    "policy_search.augment.baselines": ("BASELINES", "SINGLE_STRATEGIES", "baseline", "choice", "stacked"),
    "policy_search.augment.documents": ("PolicyDocument", "Provenance", "load_policy"),
    "policy_search.cells.errors": ("PolicyError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'policy_search.augment' has no attribute {name!r}")
