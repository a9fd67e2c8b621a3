"""A random policy in the manner of TrivialAugment (Müller and Hutter, ICCV 2021): one operation, one random strength.

Its fourteen operations with the "wide" ranges, as far as they mean something on a grey image: colour is left out, and
the geometric fill is the mid-grey of phase-contrast images. It needs no search, so a searched policy has to beat it.
"""

from __future__ import annotations

import albumentations as A

from policy_search.augment import PolicyDocument, Provenance

NAME = "trivial_augment"
GREY = 128


def trivial_augment() -> PolicyDocument:
    """The policy document; family `naive`."""

    def affine(**arguments: object) -> A.Affine:
        return A.Affine(fill=GREY, fill_mask=0, p=1.0, **arguments)

    operations = [
        A.NoOp(p=1.0),
        affine(shear={"x": (-45.0, 45.0), "y": (0.0, 0.0)}),
        affine(shear={"x": (0.0, 0.0), "y": (-45.0, 45.0)}),
        affine(translate_percent={"x": (-0.1, 0.1), "y": (0.0, 0.0)}),
        affine(translate_percent={"x": (0.0, 0.0), "y": (-0.1, 0.1)}),
        affine(rotate=(-135.0, 135.0)),
        A.RandomBrightnessContrast(brightness_limit=(-0.5, 0.5), contrast_limit=(0.0, 0.0), p=1.0),
        A.RandomBrightnessContrast(brightness_limit=(0.0, 0.0), contrast_limit=(-0.9, 0.9), p=1.0),
        A.Sharpen(alpha=(0.0, 1.0), lightness=(1.0, 1.0), p=1.0),
        A.Posterize(num_bits=(2, 8), p=1.0),
        A.Solarize(threshold_range=(0.0, 1.0), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
    ]
    return PolicyDocument.from_compose(A.Compose([A.OneOf(operations, p=1.0)]), Provenance(name=NAME, family="naive"))
