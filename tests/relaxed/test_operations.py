"""The contract of the catalogue, for every entry: identity, gradients, masks, channels and the Albumentations twin."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest
import torch

from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import Emission, Group, Operation, Range
from tests.relaxed.textures import culture

FILL = 101
BY_NAME = [pytest.param(operation, id=operation.name) for operation in CATALOGUE]
# Twin of the emitted transform: largest mean absolute difference in grey levels. Everything is exact but for ties in
# rounding; gamma truncates a float64 table that misses whole numbers by 1e-14 (0.10 measured, at exponent 1).
TOLERANCE = {"gamma": 0.2}
DEFAULT_TOLERANCE = 0.05
RANDOM_PLACE = {"gaussian_noise", "cutout"}


def batch(channels: int, count: int = 1, height: int = 64, width: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` images (B, channels, H, W) in [0, 1] and their masks; all 256 levels occur."""
    images, masks = [], []
    for seed in range(count):
        image, mask = culture(seed, size=96)
        image = np.clip((image[:height, :width].astype(int) - 128) * 5 + 128, 0, 255).astype(np.uint8)
        layers = [image, image[::-1], image[:, ::-1]][:channels]
        images.append(torch.from_numpy(np.stack(layers).copy()))
        masks.append(torch.from_numpy(mask[None, :height, :width].copy()))
    return torch.stack(images).float() / 255, torch.stack(masks).float()


def magnitudes(operation: Operation) -> list[float]:
    """Both bounds and points between, as they are drawn."""
    if operation.magnitude is None:
        return [1.0]
    values = np.linspace(operation.magnitude.low, operation.magnitude.high, 6).tolist()
    return [float(round(v)) for v in values] if operation.magnitude.whole else values


def apply(
    operation: Operation, image: torch.Tensor, mask: torch.Tensor, magnitude: float, gate: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The operation at one magnitude for the whole batch."""
    ones = torch.ones(len(image))
    generator = torch.Generator().manual_seed(seed)
    return operation.apply(image, mask, ones * magnitude, ones * gate, generator, FILL / 255)


def test_the_catalogue_has_every_group_and_unique_names() -> None:
    assert len({operation.name for operation in CATALOGUE}) == len(CATALOGUE) >= 14
    assert {operation.group for operation in CATALOGUE} == set(Group)


def test_unknown_operations_are_named() -> None:
    with pytest.raises(KeyError, match="sharpen"):
        operations("scale", "sharpen")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", BY_NAME)
def test_identity_magnitude_changes_nothing(operation: Operation, channels: int) -> None:
    image, mask = batch(channels)
    changed = apply(operation, image, mask, operation.identity)
    assert torch.allclose(changed[0], image, atol=1e-6)
    assert torch.equal(changed[1], mask)


@pytest.mark.parametrize("operation", BY_NAME)
def test_a_closed_gate_changes_nothing(operation: Operation) -> None:
    image, mask = batch(1)
    changed = apply(operation, image, mask, magnitudes(operation)[-1], gate=0.0)
    assert torch.allclose(changed[0], image, atol=1e-6)
    assert torch.equal(changed[1], mask)


@pytest.mark.parametrize("operation", BY_NAME)
def test_an_open_gate_at_a_bound_changes_the_image(operation: Operation) -> None:
    image, mask = batch(1)
    assert (apply(operation, image, mask, magnitudes(operation)[-1])[0] - image).abs().mean() > 1e-3


@pytest.mark.parametrize("open_gate", [0.0, 1.0])
@pytest.mark.parametrize("operation", BY_NAME)
def test_gradient_reaches_the_gate(operation: Operation, open_gate: float) -> None:
    image, mask = batch(1)
    gate = torch.full((1,), open_gate, requires_grad=True)
    value = torch.tensor([magnitudes(operation)[-2 if operation.magnitude else 0]])
    changed = operation.apply(image, mask, value, gate, torch.Generator().manual_seed(0), FILL / 255)
    loss = (changed[0] - 0.3).square().mean() + changed[1].mean()
    (gradient,) = torch.autograd.grad(loss, gate)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().item() > 1e-7


@pytest.mark.parametrize("operation", [p for p in BY_NAME if p.values[0].magnitude is not None])
def test_gradient_reaches_both_ends_of_the_range_even_at_extreme_raw_values(operation: Operation) -> None:
    image, mask = batch(1)
    for raw in (-6.0, 0.3, 6.0):
        centre, width = torch.tensor([raw], requires_grad=True), torch.tensor([raw], requires_grad=True)
        low, high = operation.magnitude.ends(centre, width)
        assert operation.magnitude.low <= low.item() <= high.item() <= operation.magnitude.high * (1 + 1e-6)
        magnitude = operation.draw(low, high, torch.tensor([0.37]))
        changed = operation.apply(image, mask, magnitude, torch.ones(1), torch.Generator().manual_seed(0), FILL / 255)
        loss = (changed[0] - 0.3).square().sum()
        to_low, to_high = torch.autograd.grad(loss, (low, high), retain_graph=True)
        raws = torch.autograd.grad(loss, (centre, width))
        assert all(torch.isfinite(g).all() and g.abs().item() > 0 for g in (to_low, to_high, *raws)), raw


@pytest.mark.parametrize("operation", [p for p in BY_NAME if p.values[0].magnitude is not None])
def test_the_range_starts_where_the_catalogue_says(operation: Operation) -> None:
    raw = operation.magnitude.raw_start()
    low, high = operation.magnitude.ends(*(torch.tensor(r, dtype=torch.float64) for r in raw))
    assert (low.item(), high.item()) == pytest.approx(operation.magnitude.start, rel=1e-6)


@pytest.mark.parametrize("operation", BY_NAME)
def test_masks_stay_binary_and_pixel_operations_leave_them_alone(operation: Operation) -> None:
    image, mask = batch(3)
    for value in magnitudes(operation):
        _, changed = apply(operation, image, mask, value)
        assert set(changed.unique().tolist()) <= {0.0, 1.0}
        if operation.pixels is not None:
            assert torch.equal(changed, mask)


@pytest.mark.parametrize("operation", [p for p in BY_NAME if p.values[0].matrix is not None])
def test_masks_follow_geometry(operation: Operation) -> None:
    """The mask as an image goes where the mask goes: where the warped image is not mixed, the two agree."""
    _, mask = batch(1)
    ones = torch.ones(1)
    for value in magnitudes(operation):
        generator = torch.Generator().manual_seed(0)
        image, changed = operation.apply(mask, mask, ones * value, ones, generator, 0.0)
        clear = (image < 0.02) | (image > 0.98)
        assert torch.equal(image[clear] > 0.5, changed[clear] > 0.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", [p for p in BY_NAME if p.values[0].name not in RANDOM_PLACE])
def test_the_emitted_transform_gives_the_same_pixels_and_mask(operation: Operation, channels: int) -> None:
    image, mask = batch(channels)
    levels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    levels = levels[..., 0] if channels == 1 else levels
    for value in magnitudes(operation):
        ours, our_mask = apply(operation, image, mask, value)
        emitted = A.Compose([operation.emit(value, value, Emission(FILL))])
        theirs = emitted(image=levels, mask=mask[0, 0].byte().numpy())
        expected = torch.from_numpy(theirs["image"].copy()).float().reshape(64, 80, channels).permute(2, 0, 1)
        difference = (ours[0] * 255 - expected).abs().mean().item()
        assert difference <= TOLERANCE.get(operation.name, DEFAULT_TOLERANCE), value
        a, b = our_mask[0, 0].numpy() > 0, theirs["mask"] > 0
        # Nearest neighbours differ at exact ties only (the centre of four pixels).
        assert (a & b).sum() / max((a | b).sum(), 1) > 0.97, value


def test_emitted_noise_has_the_same_distribution() -> None:
    (noise,) = operations("gaussian_noise")
    flat = torch.full((1, 1, 256, 256), 128 / 255)
    for deviation in (0.01, 0.05, 0.12):
        ours = apply(noise, flat, flat.round(), deviation)[0].numpy() * 255
        emitted = A.Compose([noise.emit(deviation, deviation, Emission(FILL))], seed=1)
        theirs = emitted(image=np.full((256, 256, 3), 128, np.uint8))["image"].astype(float)
        assert np.ptp(theirs, axis=2).max() == 0  # a grey image stays grey
        assert abs(ours.mean() - theirs.mean()) < 0.3
        assert ours.std() == pytest.approx(theirs[..., 0].std(), rel=0.02)


def test_emitted_cutout_covers_as_much_with_the_same_grey() -> None:
    (cutout,) = operations("cutout")
    image, mask = torch.full((1, 1, 64, 80), 200 / 255), torch.ones(1, 1, 64, 80)
    for side in (4.0, 17.0, 64.0):
        ours, our_mask = apply(cutout, image, mask, side)
        emitted = A.Compose([cutout.emit(side, side, Emission(FILL))], seed=1)
        theirs = emitted(image=np.full((64, 80), 200, np.uint8), mask=np.ones((64, 80), np.uint8))
        assert (theirs["image"] == FILL).sum() == (theirs["mask"] == 0).sum() == side * side
        assert torch.isclose(ours, torch.tensor(FILL / 255)).sum() == (our_mask == 0).sum() == side * side


def test_whole_magnitudes_are_uniform_over_the_rounded_range() -> None:
    span = Range(-32, 32, identity=0, start=(-8, 8), whole=True)
    uniform = (torch.arange(6000) + 0.5) / 6000
    drawn = span.draw(torch.full((6000,), 1.8), torch.full((6000,), 4.4), uniform)
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [2, 3, 4]
    assert counts.tolist() == [2000, 2000, 2000]


def test_an_operation_acts_in_exactly_one_way() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Operation("nothing", Group.TONE, None, lambda low, high, e: A.NoOp())
