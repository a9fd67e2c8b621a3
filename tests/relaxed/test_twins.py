"""What is searched is what is emitted: every entry beside its Albumentations transform, same pixels and same mask."""

from __future__ import annotations

import math
from typing import Any

import albumentations as A
import albumentations.augmentations.pixel.functional as pixel
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policy_search.relaxed import curves, texture, tone
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.operations import Emission, Operation
from policy_search.relaxed.warp import translation, warp
from tests.relaxed.samples import ALL, FILL, SIZES, apply, batch, levels, magnitudes

# Largest mean absolute difference of an image, in grey levels. What is not listed differs in ties of rounding only.
MEAN_DIFFERENCE = {
    "gamma": 0.2,  # Albumentations truncates a float64 table that misses whole numbers by 1e-14 (0.10 measured)
    "contrast": 0.05,  # with three channels, OpenCV rounds each pixel's luma before the mean is taken
    "rotate": 0.05,
    "shear_x": 0.05,
    "shear_y": 0.05,
    "scale": 0.05,
    "stretch_x": 0.05,
    "stretch_y": 0.05,
    "crop_resize": 0.05,
    "gaussian_blur": 0.05,
}
TIES = 0.002
# Least IoU of a mask: nearest neighbours may differ where the source lies midway between two pixels.
MASK_IOU = 0.97
# Drawn within the transform: compared at the same drawn numbers, and as distributions.
RANDOM = {"tone_curve", "gaussian_noise", "illumination", "cutout", "copy_paste", "crop_resize"}
SAME_DRAW = [p for p in ALL if p.values[0].name not in RANDOM]
WARPS = [p for p in ALL if p.values[0].matrix is not None]
Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def emitted(operation: Operation, low: float, high: float, seed: int | None = None) -> A.Compose:
    return A.Compose([operation.emit(low, high, Emission(FILL))], seed=seed, save_applied_params=True)


def overlap(ours: torch.Tensor, theirs: NDArray[Any]) -> float:
    """IoU of (1, H, W) and (H, W)."""
    a, b = ours[0].numpy() > 0, theirs > 0
    return float((a & b).sum() / max((a | b).sum(), 1))


def difference(ours: torch.Tensor, theirs: NDArray[np.uint8]) -> float:
    """Mean absolute difference of (C, H, W) and (H, W[, C]) in grey levels."""
    return float(np.abs(levels(ours).astype(int) - theirs.reshape(levels(ours).shape).astype(int)).mean())


def same_distribution(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Kolmogorov and Smirnov's test for two samples, at the level 1e-4."""
    every = np.sort(np.concatenate([ours, theirs]))
    steps = [np.searchsorted(np.sort(s), every, side="right") / len(s) for s in (ours, theirs)]
    bound = math.sqrt(-math.log(1e-4 / 2) / 2 * (1 / len(ours) + 1 / len(theirs)))
    return bool(np.abs(steps[0] - steps[1]).max() < bound)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", SAME_DRAW)
def test_pixels_and_mask_are_the_same(operation: Operation, channels: int, size: tuple[int, int]) -> None:
    data = batch(channels, size)
    for value in magnitudes(operation):
        image, mask = apply(operation, data, value)
        theirs = emitted(operation, value, value)(image=levels(data[0][0]), mask=data[1][0, 0].byte().numpy())
        assert difference(image[0], theirs["image"]) <= MEAN_DIFFERENCE.get(operation.name, TIES), value
        assert overlap(mask[0], theirs["mask"]) >= MASK_IOU, value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", WARPS)
def test_masks_are_the_nearest_neighbours_of_the_matrix(operation: Operation, size: tuple[int, int]) -> None:
    """Against a plain computation in float64, exactly wherever the source is no tie, and against OpenCV."""
    data = batch(1, size)
    source = data[1][0, 0].numpy()
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    columns, rows = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    target = np.stack([columns, rows], -1) - middle
    for value in magnitudes(operation):
        matrix = operation.matrix(torch.tensor([value], dtype=torch.float64))[0].numpy()
        moved = (target - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T + middle
        nearest = np.round(moved).astype(int)
        inside = (nearest >= 0).all(-1) & (nearest < (size[1], size[0])).all(-1)
        x, y = (np.where(inside, nearest[..., i], 0) for i in (0, 1))
        expected = np.where(inside, source[y, x], 0)
        ours = apply(operation, data, value)[1][0, 0].numpy()
        tie = (np.abs(np.abs(moved - np.floor(moved)) - 0.5) < 1e-3).any(-1)
        assert tie.mean() < 0.2 or operation.name in {"scale", "stretch_x", "stretch_y", "crop_resize"}
        assert (ours == expected)[~tie].all(), value
        about = matrix.copy()
        about[:2, 2] += middle - matrix[:2, :2] @ middle
        warped = cv2.warpAffine(source.astype(np.uint8), about[:2], size[::-1], flags=cv2.INTER_NEAREST)
        assert overlap(torch.from_numpy(ours)[None], warped) >= MASK_IOU, value


@pytest.mark.parametrize("channels", [1, 3])
def test_tone_curves_with_the_same_control_points_are_the_same(channels: int) -> None:
    image = batch(channels)[0][:1]
    for low, high in ((0.25, 0.75), (0.0, 0.4), (0.6, 0.2), (1.0, 1.0)):
        curve = curves.bezier(tone.identity_curve(image), torch.tensor(low), torch.tensor(high))
        theirs = pixel.move_tone_curve(levels(image[0]), low, high)
        assert difference(tone.apply_curve(image, curve)[0], theirs) <= TIES, (low, high)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_light_of_the_same_direction_is_the_same(channels: int, size: tuple[int, int]) -> None:
    image = batch(channels, size)[0][:1]
    for intensity in (-0.2, -0.05, 0.01, 0.2):
        for degrees in (0.3, 50.0, 100.0, 190.0, 300.0):
            angle = torch.deg2rad(torch.tensor([degrees]))
            ours = texture.illuminate(image, torch.tensor([intensity]), angle)
            theirs = pixel.apply_linear_illumination(levels(image[0]), intensity, degrees)
            assert difference(ours[0], theirs) <= TIES, (intensity, degrees)


def many(name: str, value: float, picture: NDArray[np.uint8], count: int = 1500) -> list[NDArray[np.float64]]:
    """`count` draws (count, H, W) in grey levels, ours and the emitted transform's, of one small picture."""
    (operation,) = operations(name)
    image = torch.from_numpy(picture.astype(np.float32) / 255)[None, None].expand(count, 1, -1, -1)
    ours = apply(operation, (image, image.round(), image), value)[0][:, 0].double().numpy() * 255
    compose = emitted(operation, value, value, seed=3)
    return [ours, np.stack([compose(image=picture)["image"] for _ in range(count)]).astype(float)]


def test_control_points_of_tone_curves_are_drawn_alike() -> None:
    ours, theirs = many("tone_curve", 0.1, np.arange(256, dtype=np.uint8).reshape(16, 16))
    error = np.sqrt((ours.var(0) + theirs.var(0)) / len(ours)) + 0.02
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4.5 * error).all()
    moving = theirs.std(0) > 2
    assert moving.sum() > 200
    assert np.abs(ours.std(0)[moving] / theirs.std(0)[moving] - 1).max() < 0.12


def test_light_comes_from_all_sides_alike() -> None:
    pairs = many("illumination", 0.2, np.full((24, 32), 128, np.uint8))
    for measure in (
        lambda drawn: drawn.mean((1, 2)),
        lambda drawn: drawn[:, :, -1].mean(1) - drawn[:, :, 0].mean(1),
        lambda drawn: drawn[:, -1].mean(1) - drawn[:, 0].mean(1),
        lambda drawn: drawn[:, -1, -1] + drawn[:, 0, 0],
    ):
        assert same_distribution(*(measure(drawn) for drawn in pairs))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_resize_at_the_same_place_is_the_same(channels: int, size: tuple[int, int]) -> None:
    (zoom,) = operations("crop_resize")
    image, mask, _ = batch(channels, size)
    for seed, value in enumerate(magnitudes(zoom)):
        theirs = emitted(zoom, value, value, seed)(image=levels(image[0]), mask=mask[0, 0].byte().numpy())
        shift = drawn_shift(theirs, size, value)
        matrix = translation(*(torch.tensor([s], dtype=torch.float32) for s in shift))
        ours, our_mask = warp(image[:1], mask[:1], matrix @ zoom.matrix(torch.tensor([value])), 0.0)
        # The outermost half pixel is replicated there, and filled here, where the searched crop has context.
        inner = np.s_[1:-1, 1:-1]
        assert difference(ours[0, :, 1:-1, 1:-1], theirs["image"][inner]) <= MEAN_DIFFERENCE["crop_resize"], value
        assert overlap(our_mask[0, :, 1:-1, 1:-1], theirs["mask"][inner]) >= MASK_IOU, value


def drawn_shift(result: dict[str, Any], size: tuple[int, int], scale: float) -> tuple[float, float]:
    """Pixels (x, y) by which the one `Affine` that was applied moves the middle of the image."""
    (_, parameters), *_ = result["applied_transforms"]
    assert parameters["matrix"][0, 0] == pytest.approx(scale)
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2, 1])
    x, y = (parameters["matrix"] @ middle)[:2] - middle[:2]
    return float(x), float(y)


def test_emitted_crop_resize_shows_a_random_place_and_never_the_border() -> None:
    (zoom,) = operations("crop_resize")
    flat = np.full((64, 80), 200, np.uint8)
    compose, shifts = emitted(zoom, 1.5, 1.5, seed=1), []
    for _ in range(400):
        result = compose(image=flat, mask=np.ones_like(flat))
        assert (result["image"] == 200).all()
        assert (result["mask"] == 1).all()
        shifts.append(drawn_shift(result, (64, 80), 1.5))
    x, y = np.array(shifts).T
    # Uniform over what the enlargement hides: a quarter of the side either way, in whole pixels.
    rng = np.random.default_rng(0)
    assert same_distribution(x, np.trunc(rng.uniform(-20, 20, 4000)))
    assert same_distribution(y, np.trunc(rng.uniform(-16, 16, 4000)))
    assert np.abs(x).max() <= 20
    assert np.abs(y).max() <= 16


def test_emitted_crop_resize_stays_off_the_border_over_a_range_too() -> None:
    (zoom,) = operations("crop_resize")
    flat = np.full((64, 80), 200, np.uint8)
    compose = A.Compose([zoom.emit(1.1, 1.9, Emission(0))], seed=1, save_applied_params=True)
    scales = []
    for _ in range(400):
        result = compose(image=flat)
        assert (result["image"] == 200).all()
        scales.append(result["applied_transforms"][0][1]["matrix"][0, 0])
    assert same_distribution(np.array(scales), np.linspace(1.1, 1.9, 4000))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("low", "high"), [(1.0, 1.4), (1.1, 1.9), (1.5, 1.5)])
def test_searched_and_emitted_crop_resize_have_scale_and_place_from_one_distribution(
    low: float, high: float, size: tuple[int, int]
) -> None:
    (zoom,) = operations("crop_resize")
    compose, flat = emitted(zoom, low, high, seed=2), np.zeros(size, np.uint8)
    theirs = []
    for _ in range(1000):
        result = compose(image=flat)
        scale = result["applied_transforms"][0][1]["matrix"][0, 0]
        theirs.append((scale, *drawn_shift(result, size, scale)))
    generator = torch.Generator().manual_seed(0)
    uniform, least = torch.rand(1000, generator=generator), torch.full((1000,), low)
    magnitude = zoom.draw(least, torch.full((1000,), high), uniform)
    matrix = zoom.move(magnitude, least, torch.rand(1000, 2, generator=generator), size)
    ours = torch.stack([matrix[:, 0, 0], matrix[:, 0, 2], matrix[:, 1, 2]], 1).numpy()
    for one, other in zip(ours.T, np.array(theirs).T, strict=True):
        assert same_distribution(np.round(one, 3), np.round(other, 3))
    if 1 < low < high:
        # Drawn apart from each other: neither form moves small enlargements less.
        for found in (ours, np.array(theirs)):
            together = np.corrcoef(np.c_[found[:, 0], np.abs(found[:, 1:])].T)
            assert np.abs(together[np.triu_indices(3, 1)]).max() < 0.15


def test_searched_crop_resize_stays_off_the_border() -> None:
    (zoom,) = operations("crop_resize")
    image, ones = torch.ones(300, 1, 64, 80), torch.ones(300)
    uniform = torch.rand(300, generator=torch.Generator().manual_seed(0))
    magnitude = zoom.draw(1.2 * ones, 1.9 * ones, uniform)
    moved, mask = zoom.apply(image, image, magnitude, ones, torch.Generator().manual_seed(1), 0.0, low=1.2 * ones)
    # Half a pixel around it is interpolated with what lies beyond: the context, in a search.
    assert (moved[..., 1:-1, 1:-1] == 1).all()
    assert (mask[..., 1:-1, 1:-1] == 1).all()


def test_the_place_of_a_crop_goes_with_the_lower_end_of_the_range() -> None:
    (zoom,) = operations("crop_resize")
    low, noise = torch.tensor([1.3, 1.0], requires_grad=True), torch.tensor([[0.9, 0.2], [0.9, 0.2]])
    matrix = zoom.move(torch.tensor([1.5, 1.0]), low, noise, (64, 80))
    # Half of 0.3 of a side, times 0.8 of the way to the right and 0.6 up, in whole pixels; nowhere without a crop.
    assert matrix[:, :2, 2].tolist() == [[9.0, -5.0], [0.0, 0.0]]
    (to_low,) = torch.autograd.grad(matrix[0, 0, 2] + 10 * matrix[0, 1, 2], low)
    assert to_low[0].item() == pytest.approx(0.5 * 80 * 0.8 - 10 * 0.5 * 64 * 0.6, rel=1e-5)
    # Where the images are not said to have sides it is enlarged about its middle.
    assert (zoom.move(torch.tensor([1.5, 1.0]), low, noise, None)[:, :2, 2] == 0).all()


def test_emitted_copy_paste_covers_as_much_with_the_same_pixels() -> None:
    (paste,) = operations("copy_paste")
    image, mask, labels = batch(1)
    donor_labels = labels[1, 0].numpy().astype(np.uint16)
    ids = np.unique(donor_labels)[1:]
    compose = emitted(paste, 0, 1, seed=1)
    ours, theirs, singles = [], [], []
    for seed in range(400):
        changed, our_mask = apply(paste, (image, mask, labels), 1.0, seed=seed)
        result = compose(
            image=levels(image[0]),
            mask=mask[0, 0].byte().numpy(),
            masks=labels[0].numpy().astype(np.uint16),
            copy_paste_metadata={"image": levels(image[1]), "masks": donor_labels[None]},
        )
        for into, picture, cells in (
            (ours, levels(changed[0]), our_mask[0, 0].numpy()),
            (theirs, result["image"], result["mask"]),
        ):
            # Where cells are new the pixels are the donor's; elsewhere nothing has moved.
            added = (cells > 0) & (mask[0, 0].numpy() == 0)
            assert (picture[added] == levels(image[1])[added]).all()
            assert (picture[donor_labels == 0] == levels(image[0])[donor_labels == 0]).all()
            assert ((cells > 0) >= (mask[0, 0].numpy() > 0)).all()
            into.append(added.sum())
        donor = (levels(changed[0]) == levels(image[1])) & (levels(image[0]) != levels(image[1]))
        singles.append([donor[donor_labels == i].mean() > 0.5 for i in ids])
    assert same_distribution(np.array(ours), np.array(theirs))
    # Each instance as a whole, a quarter of the time, whatever the others do.
    share = np.array(singles).mean(0)
    assert np.abs(share - 0.25).max() < 4.5 * math.sqrt(0.25 * 0.75 / 400)


def test_emitted_noise_has_the_same_distribution() -> None:
    (noise,) = operations("gaussian_noise")
    flat = torch.full((1, 1, 256, 256), 128 / 255)
    for deviation in (0.005, 0.02, 0.12):
        ours = apply(noise, (flat, flat, flat), deviation)[0].numpy() * 255
        theirs = emitted(noise, deviation, deviation, seed=1)(image=np.full((256, 256, 3), 128, np.uint8))["image"]
        assert np.ptp(theirs.astype(int), axis=2).max() == 0  # a grey image stays grey
        assert abs(ours.mean() - theirs.mean()) < 0.3
        assert ours.std() == pytest.approx(theirs[..., 0].astype(float).std(), rel=0.02)


def test_emitted_cutout_covers_as_much_with_the_same_grey() -> None:
    (cutout,) = operations("cutout")
    image, mask = torch.full((1, 1, 64, 80), 200 / 255), torch.ones(1, 1, 64, 80)
    for side in (4.0, 17.0, 64.0):
        ours, our_mask = apply(cutout, (image, mask, mask), side)
        theirs = emitted(cutout, side, side, seed=1)(
            image=np.full((64, 80), 200, np.uint8), mask=np.ones((64, 80), np.uint8)
        )
        assert (theirs["image"] == FILL).sum() == (theirs["mask"] == 0).sum() == side * side
        assert torch.isclose(ours, torch.tensor(FILL / 255)).sum() == (our_mask == 0).sum() == side * side


def test_emitted_cutout_draws_each_side_from_the_range() -> None:
    """The searched hole is a square; Albumentations draws height and width apart, each from the same range."""
    (cutout,) = operations("cutout")
    count = 400
    white = torch.ones(count, 1, 64, 80)
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0))
    side = cutout.draw(torch.full((count,), 8.0), torch.full((count,), 31.0), uniform)
    ours = [m[0].numpy() for m in apply(cutout, (white, white, white), side)[1]]
    compose, flat = emitted(cutout, 8, 31, seed=1), np.ones((64, 80), np.uint8)
    theirs = [compose(image=flat, mask=flat)["mask"] for _ in range(count)]
    for axis in (0, 1):
        sides, middles = [], []
        for masks in (ours, theirs):
            hidden = np.stack([(m == 0).any(axis) for m in masks])
            sides.append(hidden.sum(1))
            middles.append((hidden * np.arange(hidden.shape[1])).sum(1) / hidden.sum(1))
        assert same_distribution(*sides)
        assert same_distribution(*middles)


OVER_A_RANGE = [p for p in ALL if p.values[0].name not in {"crop_resize", "copy_paste", "cutout"}]


@pytest.mark.parametrize("operation", OVER_A_RANGE)
def test_over_a_range_the_draws_have_the_same_distribution(operation: Operation) -> None:
    """Ranges are emitted as ranges. 300 draws of either, by what each does to mean, contrast, sides and mask."""
    count = 300
    picture, mask, labels = (part[:1] for part in batch(1, stretch=1))
    span = operation.magnitude
    low, high = (1.0, 1.0) if span is None else (span.low + 0.3 * (span.high - span.low), span.high)
    if span is not None and span.single:
        low = high
    data = tuple(part.expand(count, -1, -1, -1) for part in (picture, mask, labels))
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(5))
    drawn = operation.draw(torch.full((count,), low), torch.full((count,), high), uniform)
    changed, cells = apply(operation, data, drawn, seed=6)
    ours = [(levels(i), m[0].numpy()) for i, m in zip(changed, cells, strict=True)]
    compose = emitted(operation, low, high, seed=7)
    results = [compose(image=levels(picture[0]), mask=mask[0, 0].byte().numpy()) for _ in range(count)]
    theirs = [(r["image"], r["mask"]) for r in results]
    for name, measure in MEASURES.items():
        a, b = (np.array([measure(i.astype(float), m) for i, m in pairs]) for pairs in (ours, theirs))
        # A tenth of a level is not a difference: rounding spreads values that are the same.
        if max(a.std(), b.std()) < 0.1:
            assert abs(a.mean() - b.mean()) < 0.3, name
        else:
            assert same_distribution(a, b), (name, a.mean(), b.mean(), a.std(), b.std())


MEASURES = {
    "mean": lambda image, mask: image.mean(),
    "contrast": lambda image, mask: image.std(),
    "grain": lambda image, mask: np.abs(np.diff(image)).mean(),
    "right less left": lambda image, mask: image[:, 40:].mean() - image[:, :40].mean(),
    "bottom less top": lambda image, mask: image[32:].mean() - image[:32].mean(),
    "cells": lambda image, mask: 100 * (mask > 0).mean(),
    "cells right less left": lambda image, mask: 100 * ((mask[:, 40:] > 0).mean() - (mask[:, :40] > 0).mean()),
}
