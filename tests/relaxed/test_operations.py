"""The contract of the catalogue, for every entry: identity, gates, ranges, masks, channels and sizes."""

from __future__ import annotations

import albumentations as A
import pytest
import torch

from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import Emission, Group, Operation, Range
from policy_search.relaxed.ranges import ranges
from tests.relaxed.samples import ALL, FILL, RANGED, SIZES, apply, batch, magnitudes

# What is left at the magnitude of the identity, in [0, 1]. Albumentations' tone curve is an S there (6.15 grey levels).
IDENTITY = {"tone_curve": 6.5 / 255}
# Nothing to set to zero: these are undone by their gate alone.
GATE_ONLY = {"equalize", "autocontrast", "copy_paste"}
# Drawn for the batch as a whole; copy_paste takes its donor from it.
RANDOM = {"tone_curve", "gaussian_noise", "illumination", "cutout", "copy_paste"}
MOVES_THE_MASK = {Group.POSE, Group.SHAPE, Group.OCCLUSION}
REQUIRED = """horizontal_flip vertical_flip rotate shear_x shear_y translate_x translate_y scale stretch_x stretch_y
crop_resize brightness contrast gamma solarize posterize equalize autocontrast invert tone_curve gaussian_blur sharpen
gaussian_noise illumination cutout copy_paste"""


def test_the_catalogue_is_complete_with_unique_names_and_every_group() -> None:
    names = [operation.name for operation in CATALOGUE]
    assert len(set(names)) == len(names)
    assert set(names) == set(REQUIRED.split())
    assert {operation.group for operation in CATALOGUE} == set(Group)


def test_opt_in_operations_are_there_only_where_they_are_named() -> None:
    assert {o.name for o in CATALOGUE} - {o.name for o in operations()} == {"copy_paste"}
    assert [o.name for o in operations("copy_paste", "scale")] == ["copy_paste", "scale"]


def test_unknown_operations_are_named() -> None:
    with pytest.raises(KeyError, match="emboss"):
        operations("scale", "emboss")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", [p for p in ALL if p.values[0].name not in GATE_ONLY])
def test_identity_magnitude_changes_nothing(operation: Operation, channels: int, size: tuple[int, int]) -> None:
    data = batch(channels, size)
    image, mask = apply(operation, data, operation.identity)
    assert (image - data[0]).abs().max() <= IDENTITY.get(operation.name, 1e-6)
    assert torch.equal(mask, data[1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", ALL)
def test_a_closed_gate_changes_nothing(operation: Operation, channels: int, size: tuple[int, int]) -> None:
    data = batch(channels, size)
    for value in magnitudes(operation, 3):
        image, mask = apply(operation, data, value, gate=0.0)
        assert torch.allclose(image, data[0], atol=1e-6), value
        assert torch.equal(mask, data[1]), value


@pytest.mark.parametrize("operation", ALL)
def test_an_open_gate_at_a_bound_changes_the_image(operation: Operation) -> None:
    data = batch(1, stretch=3)
    assert (apply(operation, data, magnitudes(operation)[-1])[0] - data[0]).abs().mean() > 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", ALL)
def test_images_stay_on_the_grid_and_masks_binary(operation: Operation, channels: int, size: tuple[int, int]) -> None:
    data = batch(channels, size)
    for value in magnitudes(operation):
        image, mask = apply(operation, data, value)
        assert image.shape == data[0].shape
        assert mask.shape == data[1].shape
        assert image.min() >= 0
        assert image.max() <= 1 + 1e-6
        assert (image * 255 - (image * 255).round()).abs().max() < 1e-3, value
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        if operation.group not in MOVES_THE_MASK:
            assert torch.equal(mask, data[1])


@pytest.mark.parametrize("operation", [p for p in ALL if p.values[0].name not in RANDOM])
def test_images_of_a_batch_do_not_touch_each_other(operation: Operation) -> None:
    data = batch(3, count=3)
    both = torch.tensor([magnitudes(operation)[i] for i in (0, -1, 0)])
    together = apply(operation, data, both)
    for i, value in enumerate(both.tolist()):
        alone = apply(operation, tuple(part[i : i + 1] for part in data), value)
        assert torch.allclose(alone[0], together[0][i : i + 1], atol=1.01 / 255)
        assert (alone[0] - together[0][i : i + 1]).abs().mean() < 1e-4
        assert torch.equal(alone[1], together[1][i : i + 1])


@pytest.mark.parametrize("operation", RANGED)
def test_the_range_starts_where_the_catalogue_says(operation: Operation) -> None:
    raw = operation.magnitude.raw_start()
    low, high = operation.magnitude.ends(*(torch.tensor(r, dtype=torch.float64) for r in raw))
    assert (low.item(), high.item()) == pytest.approx(operation.magnitude.start, rel=1e-6)


@pytest.mark.parametrize("operation", RANGED)
def test_ends_stay_ordered_and_within_the_bounds(operation: Operation) -> None:
    span = operation.magnitude
    slack = 1e-5 * (span.high - span.low)
    for centre in (-40.0, -3.0, 0.0, 3.0, 40.0):
        for width in (-40.0, 0.0, 40.0):
            low, high = (end.item() for end in span.ends(torch.tensor(centre), torch.tensor(width)))
            assert span.low - slack <= low <= high <= span.high + slack
            assert low == high or not span.single


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


def test_pasting_asks_for_labels_and_for_a_neighbour() -> None:
    (paste,) = operations("copy_paste")
    image, mask, labels = batch(1)
    ones, generator = torch.ones(2), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="labels"):
        paste.apply(image, mask, ones, ones, generator, 0.5)
    with pytest.raises(ValueError, match="at least 2 images"):
        paste.apply(image[:1], mask[:1], ones[:1], ones[:1], generator, 0.5, labels=labels[:1])


def test_only_tone_operations_bend_a_curve() -> None:
    (scale,) = operations("scale")
    curve = torch.zeros(1, 1, 256)
    with pytest.raises(ValueError, match="no curve"):
        scale.bend(curve, curve, torch.ones(1), torch.ones(1), torch.zeros(1, 0))


def test_a_gradient_of_light_is_emitted_as_steep_per_pixel_as_it_was_searched_within_the_bounds() -> None:
    (light,) = operations("illumination")
    emitted = light.emit(0.02, 0.08, Emission(FILL, extent=2.0))
    assert emitted.intensity_range == pytest.approx((0.04, 0.16))
    assert light.emit(0.02, 0.15, Emission(FILL, extent=2.0)).intensity_range == pytest.approx((0.04, 0.2))
    assert light.emit(0.02, 0.15, Emission(FILL, extent=0.1)).intensity_range == pytest.approx((0.01, 0.015))


def test_all_ranges_at_once_are_each_operation_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    centre, width = (8 * torch.randn(40, 3, len(CATALOGUE), generator=generator) for _ in range(2))
    uniform = torch.rand(centre.shape, generator=generator)
    raw = [part.requires_grad_(True) for part in (centre, width)]
    together = ranges(CATALOGUE, torch.device("cpu"))
    drawn = together.draw(*together.ends(*raw), uniform)
    found = torch.autograd.grad((drawn * uniform).sum(), raw)
    for k, operation in enumerate(CATALOGUE):
        if operation.magnitude is None:
            assert (drawn[..., k] == 1).all()
            assert all((gradient[..., k] == 0).all() for gradient in found)
            continue
        ends = operation.magnitude.ends(centre[..., k], width[..., k])
        alone = operation.draw(*ends, uniform[..., k])
        torch.testing.assert_close(drawn[..., k], alone, rtol=1e-5, atol=1e-5)
        expected = torch.autograd.grad((alone * uniform[..., k]).sum(), raw)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours[..., k], theirs[..., k], rtol=1e-4, atol=1e-5)
