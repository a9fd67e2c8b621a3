"""Gradients of every entry to its gate and magnitude, against differences of its values.

Values are rounded to grey levels, so a short difference is noise. Instead magnitude or gate are followed over a long
step: the values, and the sum of the derivatives along the way, must rise and fall together. Least squares over all
points of the step tell by how much they drift apart.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.operations import Operation
from tests.relaxed.samples import ALL, RANGED, SIZES, apply, batch, magnitudes

# Where the magnitude is stepped from and to: both sides of the identity, and as far as no tone is clipped.
STEPS = {
    "rotate": [(-80, -30), (-20, 0), (5, 40)],
    "translate_x": [(-30, -12), (-8, 0), (3, 20)],
    "translate_y": [(-30, -12), (-8, 0), (3, 20)],
    "shear_x": [(-30, -12), (-10, 0), (3, 20)],
    "shear_y": [(-30, -12), (-10, 0), (3, 20)],
    "scale": [(0.55, 0.8), (0.8, 1), (1, 1.3), (1.3, 2)],
    "stretch_x": [(0.6, 0.8), (0.8, 1), (1, 1.2), (1.2, 1.6)],
    "stretch_y": [(0.6, 0.8), (0.8, 1), (1, 1.2), (1.2, 1.6)],
    "crop_resize": [(1, 1.3), (1.3, 2)],
    "brightness": [(-0.2, -0.1), (-0.1, 0), (0, 0.2)],
    "contrast": [(0.3, 0.6), (0.6, 1), (1, 1.4)],
    "gamma": [(0.4, 0.7), (0.7, 1), (1, 1.5), (1.5, 2.5)],
    "tone_curve": [(0.02, 0.1), (0.1, 0.2)],
    "gaussian_blur": [(0.4, 1.2), (1.2, 2.5), (2.5, 4)],
    "sharpen": [(0, 0.4), (0.4, 0.8)],
    "gaussian_noise": [(0.01, 0.04), (0.04, 0.1)],
    "illumination": [(0.01, 0.1), (0.1, 0.2)],
}
# These have no derivative, but a smooth stand-in: compared in the mean grey level of images that use every level.
STAND_IN = {"solarize": [(0.1, 0.4), (0.4, 0.9)], "posterize": [(0.5, 3.5), (2.5, 6.5)], "cutout": [(4, 20), (20, 40)]}
# Largest error, relative to the mean size of the derivative along the step.
IMAGE_TOLERANCE = 0.08
# The blur's kernel is cut off at 3.5 sigma, in whole pixels: steps that its derivative leaves out.
COARSE = {"gaussian_blur": 0.15}
MASK_TOLERANCE = 0.12
GATE_TOLERANCE = 0.1
STAND_IN_TOLERANCE = 0.15
# A flip half done is no image, but a line: its gate is only seen to have a gradient.
HALF_OPEN = [p for p in ALL if p.values[0].name not in {"horizontal_flip", "vertical_flip"}]
Loss = Callable[[Tensor, Tensor], Tensor]


def field(seed: int, size: tuple[int, int], scale: float) -> NDArray[np.float64]:
    """Smooth noise (H, W) of deviation 1 whose features are `scale` pixels wide."""
    noise = np.random.default_rng(seed).normal(0, 1, (size[0] + 64, size[1] + 64))
    blurred: NDArray[np.float64] = cv2.GaussianBlur(noise, (0, 0), scale)[32:-32, 32:-32]
    return blurred / blurred.std()


def smooth(channels: int, size: tuple[int, int] = SIZES[0], count: int = 2) -> tuple[Tensor, ...]:
    """Images with broad structure (for warps) and some fine (for filters), none of it near black or white; round
    cells as masks."""
    seeds = range(count * channels)
    images = [128 + 20 * field(s, size, 9) + 4 * field(s + 50, size, 1.5) for s in seeds]
    grid = np.clip(np.round(images), 64, 180).reshape(count, channels, *size) / 255
    masks = np.stack([field(s + 90, size, 7) > 0.3 for s in range(count)])[:, None]
    labels = np.stack([cv2.connectedComponents(m[0].astype(np.uint8))[1] for m in masks])[:, None]
    return tuple(torch.from_numpy(part.astype(np.float32)) for part in (grid, masks, labels))


def of_the_image(size: tuple[int, int]) -> Loss:
    """Tells places apart, so that geometry matters, and levels, so that tone does."""
    weight = torch.from_numpy(field(7, size, 12))
    return lambda image, mask: (weight * image + 4 * (image - 0.25) ** 2).double().mean()


def of_the_mask(size: tuple[int, int]) -> Loss:
    weight = torch.from_numpy(field(8, size, 14))
    return lambda image, mask: ((weight + 0.5) * mask).mean()


def check(value: Callable[[Tensor], Tensor], first: float, last: float, tolerance: float, points: int = 60) -> None:
    """Followed from `first` to `last`, the value and the sum of its derivatives do not drift apart."""
    values, derivatives = [], []
    places = first + (np.arange(points) + 0.5) / points * (last - first)
    for place in places:
        at = torch.tensor(float(place), requires_grad=True)
        result = value(at)
        values.append(result.item())
        derivatives.append(torch.autograd.grad(result, at)[0].item())
    slopes = np.array(derivatives)
    sums = np.concatenate([[0], np.cumsum((slopes[1:] + slopes[:-1]) / 2 * np.diff(places))])
    drift = np.polyfit(places, np.array(values) - sums, 1)[0]
    size = np.abs(slopes).mean()
    assert size > 1e-6
    assert abs(drift) <= tolerance * size, f"from {first} to {last}: {drift / size:.3f} of the derivative"


@pytest.mark.parametrize(("channels", "size"), [(1, SIZES[0]), (3, SIZES[1])])
@pytest.mark.parametrize("operation", [p for p in RANGED if p.values[0].name in STEPS])
def test_the_gradient_to_the_magnitude_is_the_difference(
    operation: Operation, channels: int, size: tuple[int, int]
) -> None:
    data, loss = smooth(channels, size), of_the_image(size)
    for first, last in STEPS[operation.name]:
        tolerance = COARSE.get(operation.name, IMAGE_TOLERANCE)
        check(lambda m: loss(*apply(operation, data, m)), first, last, tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", [p for p in RANGED if p.values[0].matrix is not None])
def test_the_gradient_of_the_mask_to_the_magnitude_is_the_difference(
    operation: Operation, size: tuple[int, int]
) -> None:
    """The mask is binary, its gradient that of a bilinear one."""
    data, loss = smooth(1, size, count=6), of_the_mask(size)
    for first, last in STEPS[operation.name]:
        check(lambda m: loss(*apply(operation, data, m)), first, last, MASK_TOLERANCE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", [p for p in RANGED if p.values[0].name in STAND_IN])
def test_a_stand_in_moves_the_mean_as_far_as_the_operation_does(operation: Operation, channels: int) -> None:
    image, mask, labels = smooth(channels)
    image = (((image - 0.5) * 4 + 0.5).clamp(0, 1) * 255).round() / 255
    for first, last in STAND_IN[operation.name]:
        for loss in (lambda image, mask: image.mean(), lambda image, mask: mask.mean()):
            if operation.hole is None and loss(image, mask) == mask.mean():
                continue
            check(
                lambda m, loss=loss: loss(*apply(operation, (image, mask, labels), m, fill=0.0)),
                first,
                last,
                STAND_IN_TOLERANCE,
            )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", HALF_OPEN)
def test_the_gradient_to_the_gate_is_the_difference(operation: Operation, channels: int) -> None:
    """Gates are 0 or 1 in a search; in between, the relaxed operation is what its gradient says it is."""
    data, loss = smooth(channels), of_the_image(SIZES[0])
    values = [1.0]
    if operation.magnitude is not None:
        steps = {**STEPS, **STAND_IN}[operation.name]
        # Far from the identity, on both sides where it has two.
        both = operation.magnitude.low < operation.magnitude.identity < operation.magnitude.high
        values = [steps[-1][1], steps[0][0]] if both else [steps[-1][1]]
    for value in values:
        check(lambda gate, value=value: loss(*apply(operation, data, float(value), gate)), 0, 1, GATE_TOLERANCE)


@pytest.mark.parametrize("open_gate", [0.0, 1.0])
@pytest.mark.parametrize("operation", ALL)
def test_gradient_reaches_the_gate(operation: Operation, open_gate: float) -> None:
    data = batch(1, stretch=3)
    gate = torch.full((2,), open_gate, requires_grad=True)
    image, mask = apply(operation, data, magnitudes(operation)[-2 if operation.magnitude else 0], gate)
    (gradient,) = torch.autograd.grad((image - 0.3).square().mean() + mask.mean(), gate)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs() > 1e-8).all()


@pytest.mark.parametrize("operation", RANGED)
def test_gradient_reaches_both_ends_of_the_range_even_at_extreme_raw_values(operation: Operation) -> None:
    data = tuple(part[:1] for part in batch(1))
    for raw in (-6.0, 0.3, 6.0):
        centre, width = torch.tensor([raw], requires_grad=True), torch.tensor([raw], requires_grad=True)
        low, high = operation.magnitude.ends(centre, width)
        magnitude = operation.draw(low, high, torch.tensor([0.37]))
        image, _ = apply(operation, data, magnitude)
        loss = (image - 0.3).square().sum()
        to_ends = torch.autograd.grad(loss, (low, high), retain_graph=True)
        to_centre, to_width = torch.autograd.grad(loss, (centre, width))
        assert all(torch.isfinite(g).all() and g.abs().item() > 0 for g in (*to_ends, to_centre)), raw
        # One number is emitted: it has no width, but every parameter has a gradient.
        assert (to_width == 0).all() if operation.magnitude.single else (to_width.abs() > 0).all(), raw


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_passes_through_tone_to_the_warp_before_it(channels: int) -> None:
    rotate, gamma = operations("rotate", "gamma")
    data, loss = smooth(channels), of_the_image(SIZES[0])

    def chain(degrees: Tensor) -> Tensor:
        image, mask = apply(rotate, data, degrees)
        return loss(*apply(gamma, (image, mask, data[2]), 1.7))

    check(chain, 5, 40, IMAGE_TOLERANCE)
