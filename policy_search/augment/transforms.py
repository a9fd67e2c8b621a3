"""The geometry of the paper's naive strategies built from portable Albumentations classes, and CopyPaste.

`lateral_stretch` and `crop_resize` need no class of ours: a crop at a random place, resized back, is an enlarging
`Affine` whose translation stays within the margin it gains. Scale and translation are drawn independently, so the range
of factors is cut into bins, and each bin limits the translation by its own smallest scale: no border ever shows.
Files with them load everywhere. Copy-paste has no standard counterpart in Albumentations 2.0.8, hence the one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

Array = NDArray[Any]


def _zoom(low: float, high: float, axes: str, weight: float) -> A.Affine:
    """An `Affine` that enlarges by [low, high] along `axes` and shows a random part of the result, without border."""
    margin = (low - 1.0) / 2.0
    scale = {axis: (low, high) if axis in axes else (1.0, 1.0) for axis in "xy"}
    shift = {axis: (-margin, margin) if axis in axes else (0.0, 0.0) for axis in "xy"}
    return A.Affine(
        scale=scale,
        translate_percent=shift,
        keep_ratio=len(axes) == 2,
        # Replicated, because interpolation at the outermost half pixel would otherwise mix in the fill colour.
        border_mode=cv2.BORDER_REPLICATE,
        p=weight,
    )


def _bins(min_kept: float, bins: int) -> list[tuple[float, float]]:
    """Scale intervals (1/f) for `bins` equally wide intervals of the kept fraction f in [min_kept, 1]."""
    kept = np.linspace(1.0, min_kept, bins + 1)
    return [(round(1.0 / kept[i], 6), round(1.0 / kept[i + 1], 6)) for i in range(bins)]


def lateral_stretch(min_kept: float = 0.5, bins: int = 6, p: float = 1.0) -> A.OneOf:
    """Crop one axis to a random fraction in [min_kept, 1] and resize back (paper 4.2.2); either axis, equally often."""
    branches = [_zoom(low, high, axis, 1.0) for axis in "xy" for low, high in _bins(min_kept, bins)]
    return A.OneOf(branches, p=p)


def crop_resize(min_kept: float = 0.5, bins: int = 6, p: float = 1.0) -> A.OneOf:
    """Crop both axes to one random fraction in [min_kept, 1] at a random place and resize back (paper 4.2.3)."""
    return A.OneOf([_zoom(low, high, "xy", 1.0) for low, high in _bins(min_kept, bins)], p=p)


class CopyPaste(A.DualTransform):  # type: ignore[misc]  # albumentations is untyped here
    """Paste cells of another image, occluding what lies below (paper 4.2.5; Ghiasi et al., 2020).

    The donor travels in the call's metadata, as for Albumentations' `Mosaic`:
    `transform(image=…, masks=…, copy_paste_metadata={"image": donor_image, "masks": donor_masks})`.

    Masks come in either of two forms, the same for image and donor:
        uint16 (L, H, W): label layers (see `InstanceMap`); pasted instances get fresh ids above the present ones.
        any other dtype, (N, H, W) or a list of N (H, W): one binary mask per instance; pasted ones are appended.
    A semantic `mask` gets its largest value (at least 1) under pasted cells. Boxes and keypoints are refused: they
    cannot be matched to occluded instances; compute boxes from the returned masks.

    Args:
        paste_probability: chance of each donor instance to be pasted.
        donor_scale: range of the factor by which the donor is resized about its centre first (paper 4.2.6).
        metadata_key: name of the metadata argument.
        p: chance that the transform is applied.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        """Checked by Albumentations at construction."""

        paste_probability: float
        donor_scale: tuple[float, float]
        metadata_key: str

    def __init__(
        self,
        paste_probability: float = 0.25,
        donor_scale: tuple[float, float] = (1.0, 1.0),
        metadata_key: str = "copy_paste_metadata",
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not 0.0 <= paste_probability <= 1.0:
            raise ValueError(f"paste_probability must be in [0, 1], got {paste_probability}")
        if not 0.0 < donor_scale[0] <= donor_scale[1]:
            raise ValueError(f"donor_scale must be a rising range of positive factors, got {donor_scale}")
        self.paste_probability = paste_probability
        self.donor_scale = (float(donor_scale[0]), float(donor_scale[1]))
        self.metadata_key = metadata_key

    @property
    def targets_as_params(self) -> list[str]:
        """The metadata argument is needed to draw parameters."""
        return [self.metadata_key]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Choose the donor's instances and bring them to the image's frame.

        Returns:
            `donor_image` like the image, `donor_masks` the chosen instances in the donor's form, `pasted` (H, W) bool.
        """
        metadata = data[self.metadata_key]
        if not isinstance(metadata, dict) or not {"image", "masks"} <= metadata.keys():
            raise ValueError(
                f"{self.metadata_key} must be a dict with 'image' and 'masks', got {type(metadata).__name__}"
            )
        shape = params["shape"]
        height, width = int(shape[0]), int(shape[1])
        masks = np.asarray(metadata["masks"])
        if masks.ndim != 3:
            masks = np.zeros((0, height, width), masks.dtype)
        chosen = self._choose(masks)
        scale = float(self.py_random.uniform(*self.donor_scale))
        image = _reframe(_like(metadata["image"], data["image"]), scale, height, width, cv2.INTER_LINEAR)
        planes = [_reframe(plane, scale, height, width, cv2.INTER_NEAREST) for plane in chosen]
        framed = np.stack(planes) if planes else np.zeros((0, height, width), masks.dtype)
        return {"donor_image": image, "donor_masks": framed, "pasted": framed.astype(bool).any(axis=0)}

    def _choose(self, masks: Array) -> Array:
        if masks.dtype != np.uint16:
            keep = self.random_generator.random(len(masks)) < self.paste_probability
            picked: Array = masks[keep]
            return picked
        ids = np.unique(masks)
        ids = ids[ids != 0]
        kept = ids[self.random_generator.random(len(ids)) < self.paste_probability]
        selected: Array = np.where(np.isin(masks, kept), masks, np.uint16(0))
        return selected

    def apply(self, img: Array, donor_image: Array, pasted: Array, **params: Any) -> Array:
        """The image with the chosen donor cells on top."""
        out = img.copy()
        out[pasted] = donor_image[pasted]
        return out

    def apply_to_mask(self, mask: Array, pasted: Array, **params: Any) -> Array:
        """The semantic mask with the pasted cells added."""
        out = mask.copy()
        out[pasted] = max(1, int(mask.max()) if mask.size else 1)
        return out

    def apply_to_masks(self, masks: Any, donor_masks: Array, pasted: Array, **params: Any) -> Any:
        """Instances below are cut by what covers them; pasted ones are added."""
        stack = np.stack(masks).copy() if len(masks) else np.zeros((0, *pasted.shape), donor_masks.dtype)
        stack[:, pasted] = 0
        if stack.dtype == np.uint16:
            out = _add_layers(stack, donor_masks)
        else:
            out = np.concatenate([stack, donor_masks.astype(stack.dtype)])
        return list(out) if isinstance(masks, (list, tuple)) else out

    def apply_to_bboxes(self, bboxes: Array, *args: Any, **params: Any) -> Array:
        """Refused: see the class."""
        raise NotImplementedError("CopyPaste does not move boxes: pass masks and compute the boxes from the result")

    apply_to_keypoints = apply_to_bboxes


def _add_layers(layers: Array, donor: Array) -> Array:
    """Label layers with the donor's added under fresh ids. The place of the paste is empty in every layer already,
    so donor layer l goes into layer l: no more layers than the larger of the two has."""
    offset = int(layers.max()) if layers.size else 0
    if offset + (int(donor.max()) if donor.size else 0) > np.iinfo(np.uint16).max:
        raise ValueError("more than 65535 instance ids after pasting: renumber the instances first")
    missing = len(donor) - len(layers)
    if missing > 0:
        layers = np.concatenate([layers, np.zeros((missing, *layers.shape[1:]), np.uint16)])
    for layer, plane in zip(layers, donor, strict=False):
        layer[plane > 0] = plane[plane > 0] + np.uint16(offset)
    return layers


def _like(donor: Array, image: Array) -> Array:
    """The donor image with as many channels as the image."""
    if donor.dtype != image.dtype:
        raise ValueError(f"donor image is {donor.dtype}, the image is {image.dtype}: they must be the same")
    if donor.ndim == image.ndim and donor.shape[2:] == image.shape[2:]:
        return donor
    if donor.ndim == 2:
        return np.repeat(donor[..., None], image.shape[2], axis=2)
    if image.ndim == 2 and donor.shape[2] == 1:
        return donor[..., 0]
    raise ValueError(f"donor image has shape {donor.shape}, the image {image.shape}: channels do not fit")


def _reframe(plane: Array, scale: float, height: int, width: int, interpolation: int) -> Array:
    """A donor plane resized about its centre and laid on an (height, width) frame, zero where it does not reach."""
    if scale == 1.0:
        out = np.zeros((height, width, *plane.shape[2:]), plane.dtype)
        h, w = min(height, plane.shape[0]), min(width, plane.shape[1])
        out[:h, :w] = plane[:h, :w]
        return out
    centre = (np.array(plane.shape[1::-1]) - 1) / 2
    matrix = np.array([[scale, 0, centre[0] * (1 - scale)], [0, scale, centre[1] * (1 - scale)]])
    warped: Array = cv2.warpAffine(plane, matrix, (width, height), flags=interpolation)
    return warped.reshape(height, width, *plane.shape[2:])


def contains_copy_paste(transforms: Sequence[Any]) -> bool:
    """Whether a CopyPaste stands anywhere in a tree of transforms."""
    return any(
        isinstance(t, CopyPaste) or contains_copy_paste(getattr(t, "transforms", ())) for t in _nodes(transforms)
    )


def _nodes(transforms: Sequence[Any]) -> list[Any]:
    # ColorJitter keeps its pixel functions under the same name `transforms`.
    return [t for t in transforms if isinstance(t, (A.BasicTransform, A.BaseCompose))]
