"""A policy for AlbumentationsX 2.5: the same transforms under the names that fork gave their arguments.

AlbumentationsX loads a file of Albumentations 2.0.8 without an error, warns of the arguments it does not know and runs
with its own defaults. Here every class and every argument has a row in a table; what has none is refused. No argument
is left out, except where X has none and its only behaviour is the value that the policy states.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_search.augment.document_checks import PROVENANCE_KEY
from policy_search.augment.documents import PolicyDocument
from policy_search.cells.errors import PolicyError

X_VERSION = "2.5.1"


@dataclass(frozen=True)
class Row:
    """How X takes the arguments of one class.

    Attributes:
        same: arguments under the same name; p is always one.
        renamed: 2.0.8 name → X's name.
        fixed: arguments that X does not have → the one value at which X does the same without them.
    """

    same: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


_WARP = ("interpolation", "mask_interpolation", "border_mode", "fill", "fill_mask")
_CROP = ("interpolation", "mask_interpolation", "area_for_downscale")

TABLE: dict[str, Row] = {
    "Compose": Row(("bbox_params", "keypoint_params", "additional_targets", "is_check_shapes")),
    "OneOf": Row(),
    "Sequential": Row(),
    "NoOp": Row(),
    "HorizontalFlip": Row(),
    "VerticalFlip": Row(),
    "Transpose": Row(),
    "InvertImg": Row(),
    "Affine": Row(
        ("scale", "rotate", "shear", "translate_percent", "translate_px", "fit_output", "keep_ratio", "rotate_method",
         "balanced_scale", *_WARP),
    ),
    "Perspective": Row(("scale", "keep_size", "fit_output", *_WARP)),
    "RandomCrop": Row(("height", "width", "pad_if_needed", "pad_position", "border_mode", "fill", "fill_mask")),
    "RandomSizedCrop": Row(("min_max_height", "size", "w2h_ratio", *_CROP)),
    "RandomResizedCrop": Row(("size", "scale", "ratio", *_CROP)),
    "CoarseDropout": Row(("num_holes_range", "hole_height_range", "hole_width_range", "fill", "fill_mask")),
    "RandomBrightnessContrast": Row(
        ("brightness_by_max",),
        {"brightness_limit": "brightness_range", "contrast_limit": "contrast_range",
         "ensure_safe_range": "ensure_safe_output"},
    ),
    "ColorJitter": Row(
        (),
        {name: f"{name}_range" for name in ("brightness", "contrast", "saturation", "hue")},
    ),
    "RandomGamma": Row((), {"gamma_limit": "gamma_range"}),
    "Solarize": Row(("threshold_range",)),
    "Posterize": Row(("num_bits",)),
    "Equalize": Row(("mode", "by_channels", "mask", "mask_params")),
    "AutoContrast": Row(("cutoff", "ignore", "method")),
    "RandomToneCurve": Row(("scale", "per_channel")),
    "GaussianBlur": Row(
        (), {"blur_limit": "blur_range", "sigma_limit": "sigma_range"}
    ),
    "Sharpen": Row(("method", "kernel_size", "sigma"), {"alpha": "alpha_range", "lightness": "lightness_range"}),
    "GaussNoise": Row(("std_range", "mean_range", "per_channel"), fixed={"noise_scale_factor": 1.0}),
    "AdditiveNoise": Row(("noise_type", "spatial_mode", "noise_params"), fixed={"approximation": 1.0}),
}  # fmt: skip

_NO_PLACE = {
    "Illumination": (
        "AlbumentationsX's Illumination adds a gradient where Albumentations 2.0.8 multiplies by one. Leave it out "
        "with --without Illumination"
    ),
    "CopyPaste": (
        "AlbumentationsX's CopyAndPaste is another operation: it wants one metadata entry per object, pastes all of "
        "them and moves each to a random place. Leave it out with --without CopyPaste"
    ),
}


def export_albumentationsx(document: PolicyDocument, without: Collection[str] = ()) -> dict[str, Any]:
    """The content of a file that `albumentations.load` of AlbumentationsX 2.5 reads as the same policy.

    Args:
        document: the policy.
        without: classes in whose place nothing is to happen: `NoOp` with the same p, so that no share changes.

    Raises:
        PolicyError: a class or an argument that has no place there, or a class in `without` that the policy lacks.
    """
    operations = _classes(document.transform) - {"Compose", "OneOf", "Sequential"}
    absent = sorted(set(without) - operations)
    if absent:
        present = ", ".join(sorted(operations))
        raise PolicyError(f"{document.name}: there is no {absent[0]} to leave out; the policy consists of {present}")
    kept_out = frozenset(without)
    return {
        "__version__": X_VERSION,
        "transform": _node(document.transform, "transform", document.name, kept_out),
        PROVENANCE_KEY: {
            **document.provenance.model_dump(exclude_none=True),
            "exported_for": f"albumentationsx {X_VERSION}",
            "exported_from": document.content_hash,
        },
    }


def _classes(node: Mapping[str, Any]) -> set[str]:
    return {_name(node)}.union(*(_classes(child) for child in node.get("transforms", ())))


def _name(node: Mapping[str, Any]) -> str:
    """The class without its module: transforms of ours are written with theirs."""
    return str(node["__class_fullname__"]).rsplit(".", 1)[-1]


def _node(node: Mapping[str, Any], key: str, source: str, without: frozenset[str]) -> dict[str, Any]:
    path, name = node["__class_fullname__"], _name(node)
    if name in without:
        return {"__class_fullname__": "NoOp", "p": node["p"]}
    if name in _NO_PLACE:
        raise PolicyError(f"{source}: key {key}: {_NO_PLACE[name]}.")
    row = TABLE.get(path)
    if row is None:
        raise PolicyError(
            f"{source}: key {key}: no table of AlbumentationsX's arguments for {path}; there is one for "
            f"{', '.join(TABLE)}. Replace the operation by one of these."
        )
    out: dict[str, Any] = {"__class_fullname__": path}
    for argument, value in node.items():
        if argument == "transforms":
            out[argument] = [_node(child, f"{key}.transforms[{i}]", source, without) for i, child in enumerate(value)]
        elif argument in row.fixed:
            _require_fixed(row.fixed[argument], value, f"{source}: key {key}.{argument}")
        elif argument == "p" or argument in row.same or argument in row.renamed:
            out[row.renamed.get(argument, argument)] = value
        elif argument != "__class_fullname__":
            raise PolicyError(
                f"{source}: key {key}.{argument}: {path} of AlbumentationsX {X_VERSION} has no such argument"
            )
    return _automatic_blur(out, f"{source}: key {key}") if name == "GaussianBlur" else out


def _automatic_blur(node: dict[str, Any], place: str) -> dict[str, Any]:
    """A kernel size for what 2.0.8 sizes by itself.

    A size of 0 means in 2.0.8 a Gaussian cut at 3.5 sigma, in X the approximation by box filters that Pillow uses. The
    size that belongs to the largest sigma cuts all smaller ones further out, where less than 0.05 % of them lies.
    """
    low, high = node["blur_range"]
    if low == 0 and high > 0:
        raise PolicyError(
            f"{place}.blur_limit: {[low, high]} mixes automatic and fixed kernel sizes, which AlbumentationsX "
            f"{X_VERSION} cannot. Use [0, 0], or start at 3."
        )
    if high == 0:
        size = max(3, int(3.5 * node["sigma_range"][1]) * 2 + 1)
        node["blur_range"] = [size, size]
    return node


def _require_fixed(wanted: Any, value: Any, place: str) -> None:
    if value != wanted:
        raise PolicyError(
            f"{place}: AlbumentationsX {X_VERSION} has no such argument and behaves as with {wanted}, found {value}. "
            f"Set it to {wanted}, or use the policy with Albumentations 2.0.8."
        )
