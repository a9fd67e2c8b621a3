"""Gradients of every entry to its gate and magnitude, against central differences.

The steps are long, and the losses sums over many pixels, so that rounding to grey levels hardly counts. A central
difference over a long step is the mean derivative between its ends: that is what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.operations import Operation
from tests.relaxed.samples import ALL, FILL, RANGED, apply, batch, magnitudes

# Where the magnitude is stepped from and to, and the largest error relative to the difference.
STEPS = {
    "rotate": [(-60, -57), (-3, 3), (20, 23)],
    "translate_x": [(-20, -16), (-2, 2), (9, 13)],
    "translate_y": [(-20, -16), (-2, 2), (9, 13)],
    "shear_x": [(-25, -21), (-3, 3), (10, 14)],
    "shear_y": [(-25, -21), (-3, 3), (10, 14)],
    "scale": [(0.6, 0.65), (0.97, 1.03), (1.6, 1.7)],
    "stretch_x": [(0.65, 0.7), (0.97, 1.03), (1.5, 1.6)],
    "stretch_y": [(0.65, 0.7), (0.97, 1.03), (1.5, 1.6)],
    "crop_resize": [(1.02, 1.08), (1.6, 1.7)],
    "brightness": [(-0.25, -0.2), (-0.03, 0.03), (0.1, 0.15)],
    "contrast": [(0.4, 0.5), (0.9, 1.1), (1.5, 1.7)],
    "gamma": [(0.5, 0.6), (0.9, 1.1), (1.8, 2.2)],
    "tone_curve": [(0.03, 0.06), (0.1, 0.15)],
    "gaussian_blur": [(0.6, 0.8), (1.0, 1.4), (2.5, 3.5)],
    "sharpen": [(0.05, 0.2), (0.4, 0.6)],
    "gaussian_noise": [(0.01, 0.03), (0.05, 0.08)],
    "illumination": [(0.02, 0.05), (0.1, 0.15)],
    # These have no derivative of their own, but a smooth stand-in for it.
    "solarize": [(0.45, 0.6)],
    "posterize": [(2, 6)],
    "cutout": [(8, 24), (30, 50)],
}
TOLERANCE = {"solarize": 0.15, "posterize": 0.35, "cutout": 0.15, "gaussian_noise": 0.1}
DEFAULT_TOLERANCE = 0.05
# A flip half done is no image, and a curve at half a gate no tone curve: for these a direction is all there is.
HALF_OPEN = [p for p in ALL if p.values[0].name not in {"horizontal_flip", "vertical_flip"}]
Loss = Callable[[Tensor, Tensor], Tensor]


def smooth(channels: int) -> tuple[Tensor, ...]:
    """Images of broad, faint structure: what a warp moves by a pixel changes by little, and no tone is clipped."""
    image, mask, labels = batch(channels, stretch=2)
    blurred = [[cv2.GaussianBlur(layer.numpy(), (0, 0), 2) for layer in layers] for layers in image]
    grid = np.round(np.array(blurred) * 255) / 255
    return torch.from_numpy(grid.astype(np.float32)), mask, labels


def weighted(shape: torch.Size) -> Loss:
    """A smooth loss that tells places apart, so that geometry matters, and levels, so that tone does."""
    rng = np.random.default_rng(3)
    field = cv2.GaussianBlur(rng.normal(0, 1, shape[2:]), (0, 0), 6)
    field = torch.from_numpy((field / field.std()).astype(np.float32))
    return lambda image, mask: (field * image + (image - 0.3) ** 2).mean()


def of_the_mask(shape: torch.Size) -> Loss:
    y, x = (torch.linspace(-1, 1, side) for side in shape[2:])
    field = torch.sin(2 * y)[:, None] + torch.cos(1.5 * x + 0.5)
    return lambda image, mask: (field * mask).mean()


def compare(value: Callable[[Tensor], Tensor], first: float, last: float) -> tuple[float, float]:
    """The central difference of `value` between two points, and the mean of its derivative there (81 points)."""
    with torch.no_grad():
        ends = [value(torch.tensor(end)).double().item() for end in (first, last)]
    derivatives = []
    for at in np.linspace(first, last, 82)[:-1] + (last - first) / 162:
        point = torch.tensor(float(at), requires_grad=True)
        derivatives.append(torch.autograd.grad(value(point), point)[0].item())
    return (ends[1] - ends[0]) / (last - first), float(np.mean(derivatives))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", RANGED)
def test_the_gradient_to_the_magnitude_is_the_difference(operation: Operation, channels: int) -> None:
    data = smooth(channels)
    loss = weighted(data[0].shape)
    for first, last in STEPS[operation.name]:
        difference, derivative = compare(lambda m: loss(*apply(operation, data, m)), float(first), float(last))
        assert abs(difference) > 1e-6
        bound = TOLERANCE.get(operation.name, DEFAULT_TOLERANCE) * abs(difference)
        assert abs(derivative - difference) <= bound, (first, last, difference, derivative)


@pytest.mark.parametrize("operation", [p for p in RANGED if p.values[0].matrix is not None or p.values[0].hole])
def test_the_gradient_of_the_mask_to_the_magnitude_is_the_difference(operation: Operation) -> None:
    """The mask is binary and its gradient that of a bilinear one: within a fifth over steps of some pixels."""
    data = smooth(1)
    loss = of_the_mask(data[1].shape)
    for first, last in STEPS[operation.name]:
        difference, derivative = compare(lambda m: loss(*apply(operation, data, m)), float(first), float(last))
        assert abs(derivative - difference) <= 0.2 * abs(difference), (first, last, difference, derivative)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", HALF_OPEN)
def test_the_gradient_to_the_gate_is_the_difference(operation: Operation, channels: int) -> None:
    """Gates are 0 or 1 in a search; in between, the relaxed operation is what its gradient says it is."""
    data = smooth(channels)
    loss = weighted(data[0].shape)
    # Far from the identity, and not so far that a tone is clipped.
    values = [STEPS[operation.name][0][0], STEPS[operation.name][-1][1]] if operation.magnitude else [1.0]
    for value in values:
        difference, derivative = compare(
            lambda gate, value=value: loss(*apply(operation, data, float(value), gate)), 0.3, 0.9
        )
        assert abs(difference) > 1e-6
        assert abs(derivative - difference) <= 0.06 * abs(difference), (value, difference, derivative)


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


@pytest.mark.parametrize(
    ("name", "value", "sign"),
    [("brightness", 0.1, 1), ("gamma", 1.3, -1), ("posterize", 3.0, -1), ("tone_curve", 0.1, 0), ("cutout", 12.0, -1)],
)
def test_the_mean_grey_level_moves_as_the_gradient_says(name: str, value: float, sign: int) -> None:
    (operation,) = operations(name)
    image, mask, labels = batch(1, stretch=1)
    magnitude = torch.full((2,), value, requires_grad=True)
    changed, _ = apply(operation, (image, mask, labels), magnitude, fill=0.0)
    (gradient,) = torch.autograd.grad(changed.sum(), magnitude)
    assert torch.isfinite(gradient).all()
    assert sign == 0 or (gradient.sign() == sign).all()


def test_a_gradient_passes_through_tone_to_the_warp_before_it() -> None:
    """Rotation, then gamma: the difference of the whole chain is its derivative."""
    rotate, gamma = operations("rotate", "gamma")
    data = smooth(1)
    loss = weighted(data[0].shape)

    def chain(degrees: Tensor) -> Tensor:
        image, mask = apply(rotate, data, degrees, fill=FILL / 255)
        return loss(*apply(gamma, (image, mask, data[2]), 1.7))

    difference, derivative = compare(chain, 10.0, 14.0)
    assert derivative == pytest.approx(difference, rel=0.08)
