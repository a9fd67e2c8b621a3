"""How large the numbers of a transform may be, so that no policy takes minutes or gigabytes for one image.

Albumentations checks most numbers for their sign only: a million holes take ten seconds, a blur of a radius of 10⁴
pixels does not end, a plasma of 10⁵ pixels a side wants all memory. The limits lie far above what does anything
useful to an image of cells, and where one application still takes about a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_search.augment.policy_json import shown
from policy_search.cells.errors import PolicyError

_FRAME, _BLUR, _MANY = 8192, 501, 1000  # pixels a side; pixels; things drawn one by one
# Largest magnitude of any number in an argument, by its name, whatever the class.
_MOST: dict[str, float] = {
    # Pixels of a result.
    **dict.fromkeys(
        ("height", "width", "size", "target_size", "cell_shape", "max_size", "max_size_hw", "min_height", "min_width",
         "min_max_height", "pad_height_divisor", "pad_width_divisor", "padding", "px", "plasma_size"),
        _FRAME,
    ),
    "percent": 4, "scale_limit": 4, "crop_left": 4, "crop_right": 4, "crop_top": 4, "crop_bottom": 4,
    # Kernels.
    **dict.fromkeys(
        ("blur_limit", "blur_value", "kernel_size", "sigma", "sigma_limit", "sigma_x_limit", "sigma_y_limit",
         "gauss_sigma"),
        _BLUR,
    ),
    "radius": 100, "max_delta": 100, "iterations": 20, "alias_blur": _BLUR, "max_factor": 10,
    # Things drawn one by one.
    **dict.fromkeys(
        ("num_holes_range", "holes_number_xy", "num_masks_x", "num_masks_y", "number_of_patches", "num_shadows_limit",
         "num_flare_circles_range", "n_segments", "num_steps", "max_objects", "drop_length",
         "drop_width", "src_radius"),
        _MANY,
    ),
    "num_output_channels": 16, "shadow_dimension": 100, "tile_grid_size": 100, "grid": 100, "grid_yx": 100,
    "num_grid_xy": 100, "num_control_points": 20, "nb_rows": 20, "nb_cols": 20,
    # How far pixels move. A border that mirrors or repeats the image is walked through image by image.
    "translate_percent": 10, "translate_px": _FRAME, "shift_limit": 10, "shift_limit_x": 10, "shift_limit_y": 10,
    "shear": 89, "alpha": 10_000, "magnitude": _FRAME, "distort_limit": 100,
}  # fmt: skip
_MOST_OF: dict[tuple[str, str], float] = {("Affine", "scale"): 16, ("Morphological", "scale"): 100}
# Smallest: of steps, because there are as many as fit; of scales, because a mirroring border is walked through.
_LEAST_OF: dict[tuple[str, str], float] = {
    ("ZoomBlur", "step_factor"): 0.001,
    ("Affine", "scale"): 0.01,
    ("ShiftScaleRotate", "scale_limit"): -0.99,
    ("Downscale", "scale_range"): 0.001,
    ("GridDropout", "unit_size_range"): 2,
}


def check_limits(name: str, arguments: dict[str, Any], place: str) -> None:
    """The numbers of one transform.

    Args:
        name: of its class.
        arguments: by name, of JSON types.
        place: file and key, for the error.

    Raises:
        PolicyError: one is too large, or a step or scale too small.
    """
    short = name.rsplit(".", 1)[-1]
    for argument, value in arguments.items():
        most = _MOST_OF.get((short, argument), _MOST.get(argument, float("inf")))
        least = max(-most, _LEAST_OF.get((short, argument), float("-inf")))
        wrong = next((number for number in _numbers(value) if not least <= number <= most), None)
        if wrong is not None:
            raise PolicyError(
                f"{place}.{argument}: expected numbers from {least:g} to {most:g}, found {shown(wrong)}: one image "
                "would take minutes, or all memory"
            )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
