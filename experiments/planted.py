"""The planted shifts of recovery.py: targets made of a source by known transforms, and how near a policy came to them.

Made with OpenCV and numpy on uint8 images, independently of every policy operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from policy_search.relaxed import CropSampler, RelaxedPolicy, tone
from policy_search.relaxed.application import compose_curve, compose_matrix, resolve

Image = NDArray[np.uint8]
DRAWS = 512  # of a found policy, over which medians are taken
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Case:
    """A planted shift.

    Attributes:
        name: in tables.
        change: (image (H, W) uint8, random generator) -> target image.
        curve: what it does to grey levels in [0, 1], given the image's mean.
        scale: factors along x and y.
        blur, noise: sigma in pixels; deviation in [0, 1].
        light: relative change of brightness per pixel.
        turn: degrees; None where no angle is planted: cells lie at all angles, so none could be seen.
        prepare: applied to source and target before: gives them an orientation that a turn can be seen by.
    """

    name: str
    change: Callable[[Image, np.random.Generator], Image] = lambda image, rng: image
    curve: Callable[[float, float], float] = lambda level, mean: level
    scale: tuple[float, float] = (1.0, 1.0)
    blur: float = 0.0
    noise: float = 0.0
    light: float = 0.0
    turn: float | None = None
    prepare: Callable[[Image], Image] = lambda image: image


def table(curve: Callable[[NDArray[np.float64], float], NDArray[np.float64]]) -> Callable[..., Image]:
    """A change of grey levels, from a function of level and mean."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        levels = curve(np.arange(256) / 255, float(image.mean()) / 255)
        return np.clip(np.round(levels * 255), 0, 255).astype(np.uint8)[image]

    return change


def resized(x: float, y: float) -> Callable[..., Image]:
    """Bilinear, as the policy's own warps are."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        height, width = image.shape
        size = (round(width * x), round(height * y))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    return change


def blurred(sigma: float) -> Callable[..., Image]:
    """OpenCV's Gaussian blur."""
    return lambda image, rng: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def noisy(deviation: float) -> Callable[..., Image]:
    """Normal noise, rounded."""
    return lambda image, rng: np.clip(np.round(image + rng.normal(0, deviation * 255, image.shape)), 0, 255).astype(
        np.uint8
    )


def lit(slope: float) -> Callable[..., Image]:
    """Light that rises by `slope` a pixel, of the brightness in the middle, in a random direction for each image."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        angle = rng.uniform(0, 2 * math.pi)
        y, x = (np.arange(n) - (n - 1) / 2 for n in image.shape)
        rise = x[None] * math.cos(angle) + y[:, None] * math.sin(angle)
        return np.clip(np.round(image * (1 + slope * rise)), 0, 255).astype(np.uint8)

    return change


def turned(degrees: float) -> Callable[..., Image]:
    """Counter-clockwise; only what is fully inside is kept."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        height, width = image.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        out = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        inside = cv2.warpAffine(np.ones_like(image), matrix, (width, height), flags=cv2.INTER_NEAREST)
        share = 1.0
        while inside[_middle(inside.shape, share)].min() == 0:
            share -= 0.02
        return np.ascontiguousarray(out[_middle(out.shape, share)])

    return change


def _middle(shape: tuple[int, ...], share: float) -> tuple[slice, slice]:
    rows, columns = (slice(round(n * (1 - share) / 2), round(n * (1 + share) / 2)) for n in shape)
    return rows, columns


def both(*changes: Callable[..., Image]) -> Callable[..., Image]:
    """One after the other."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        for one in changes:
            image = one(image, rng)
        return image

    return change


def _brighter(level: Any, mean: float) -> Any:
    return level + 0.25


def _fainter(level: Any, mean: float) -> Any:
    return mean + 0.6 * (level - mean)


def _darker(level: Any, mean: float) -> Any:
    return level**1.8


CASES = (
    Case("identity"),
    Case("brightness +0.25", table(_brighter), curve=_brighter),
    Case("contrast x0.6", table(_fainter), curve=_fainter),
    Case("gamma 1.8", table(_darker), curve=_darker),
    Case("scale 0.6", resized(0.6, 0.6), scale=(0.6, 0.6)),
    Case("scale 1.6", resized(1.6, 1.6), scale=(1.6, 1.6)),
    Case("stretch x 1.5", resized(1.5, 1.0), scale=(1.5, 1.0)),
    Case("rotation 20", turned(20), turn=20.0, prepare=lambda image: resized(1.6, 1.0)(image, None)),
    Case("blur 2", blurred(2.0), blur=2.0),
    Case("noise 0.03", noisy(0.03), noise=0.03),
    Case("light 0.001/px", lit(0.001), light=0.001),
    Case("brightness +0.25, scale 0.6", both(resized(0.6, 0.6), table(_brighter)), curve=_brighter, scale=(0.6, 0.6)),
    Case("contrast x0.6, blur 2", both(blurred(2.0), table(_fainter)), curve=_fainter, blur=2.0),
)


def found_by(policy: RelaxedPolicy, source: CropSampler, size: int) -> dict[str, Any]:
    """Medians over draws of what the policy does: tone at the source's quartiles, slope, warp, blur, noise, light.

    The warp is composed, so scale and two stretches may share it; lengths along the image's axes are those of the
    matrix times its transpose, which a turn or a mirror image in front does not change.
    """
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        image, _ = source.sample(DRAWS, size, generator)
        draw = policy.draw(DRAWS, generator)
        drawn = resolve(policy, draw)
        matrix, curve = compose_matrix(policy, drawn), compose_curve(policy, drawn, draw, image)
        matrix = torch.eye(3).expand(DRAWS, 3, 3) if matrix is None else matrix
        curve = tone.identity_curve(image) if curve is None else curve
        middle = curve.median(0).values[0]
        shares = tone.histogram(image).mean((0, 1)).cumsum(0)
        levels = [int((shares < quartile).sum()) for quartile in QUARTILES]
        # Wider than a few levels, whose rounding would be most of the slope; within the range in use.
        low, high = int((shares < 0.02).sum()), int((shares < 0.98).sum())
        lengths = (matrix[:, :2, :2] @ matrix[:, :2, :2].mT).diagonal(dim1=1, dim2=2).sqrt()
        angle = torch.rad2deg(torch.atan2(matrix[:, 0, 1] - matrix[:, 1, 0], matrix[:, 0, 0] + matrix[:, 1, 1]))
        alone = {
            name: _drawn(policy, drawn, name) for name in ("gaussian_blur", "gaussian_noise", "illumination", "sharpen")
        }
        spread = {"scale": lengths.log().std(0).mean(), "middle": curve[:, 0, levels[1]].std()}
    return {
        "levels": levels,
        "tone": [middle[level].item() for level in levels],
        "ends": (low, high),
        "slope": ((middle[high] - middle[low]) * 255 / max(high - low, 1)).item(),
        "scale": lengths.median(0).values.tolist(),
        "turn": angle.median().item(),
        "blur": alone["gaussian_blur"],
        "noise": alone["gaussian_noise"],
        "light": 2 * alone["illumination"] / (size - 1),
        "sharpen": alone["sharpen"],
        "spread": {name: value.item() for name, value in spread.items()},
    }


def _drawn(policy: RelaxedPolicy, drawn: Any, name: str) -> float:
    at = [k for k, operation in enumerate(policy.operations) if operation.name == name]
    if not at:
        return 0.0
    value: float = (drawn.on[:, :, at[0]] * drawn.magnitude[:, :, at[0]]).sum(1).median().item()
    return value


def verdicts(case: Case, found: dict[str, Any], mean: float) -> dict[str, tuple[float, float, bool]]:
    """Per quantity: planted, found, and whether that is within the tolerance.

    Tone within 0.03 at every quartile (the worst is given), scale within 7 % along both axes in every case (5 % for
    the identity), slope within 5 % for the identity, blur within 15 %, a turn within 3 degrees; noise and light within
    15 %.
    """
    close = 0.05 if case.name == "identity" else 0.07
    wanted = [case.curve(level / 255, mean) for level in found["levels"]]
    gaps = [abs(a - b) for a, b in zip(wanted, found["tone"], strict=True)]
    worst = max(range(len(gaps)), key=gaps.__getitem__)
    low, high = (end / 255 for end in found["ends"])
    slope = (case.curve(high, mean) - case.curve(low, mean)) / (high - low)
    rows = {
        "tone": (wanted[worst], found["tone"][worst], gaps[worst] <= 0.03),
        "slope": (slope, found["slope"], case.name != "identity" or abs(found["slope"] - 1) <= 0.05),
    }
    for axis, planted, value in zip("xy", case.scale, found["scale"], strict=True):
        if case.turn is None:
            rows[f"scale {axis}"] = (planted, value, abs(value / planted - 1) <= close)
    for name in ("blur", "noise", "light"):
        planted = getattr(case, name)
        if planted:
            rows[name] = (planted, found[name], abs(found[name] / planted - 1) <= 0.15)
    if case.turn is not None:
        rows["turn"] = (case.turn, found["turn"], abs(found["turn"] - case.turn) <= 3)
    return rows
