"""What a policy is: Albumentations documents, the naive strategies, and their application to images with instances.

Importing this package registers `CopyPaste` with Albumentations, so that `albumentations.load` can read policies that
paste cells. It loads neither torch nor detectron2.
"""

import policy_search.augment._albumentations  # noqa: F401  # first: it decides how Albumentations is loaded
from policy_search.augment.apply import Augmenter, Donor, apply_policy
from policy_search.augment.baselines import BASELINES, SINGLE_STRATEGIES, baseline, choice, stacked
from policy_search.augment.documents import PolicyDocument, Provenance, load_policy
from policy_search.augment.transforms import CopyPaste, crop_resize, lateral_stretch
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
