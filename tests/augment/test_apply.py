"""Applying policies: masks by brute force, seeds with and without workers, no border, no lost instance."""

from __future__ import annotations

import random
from collections import Counter

import albumentations as A
import cv2
import numpy as np
import pytest

from policy_search.augment import (
    BASELINES,
    Augmenter,
    CopyPaste,
    PolicyDocument,
    PolicyError,
    apply_policy,
    baseline,
    crop_resize,
    lateral_stretch,
)
from policy_search.augment.apply import sample_seed
from policy_search.cells import InstanceMap
from tests.conftest import ellipse_polygons, paint

H, W = 96, 120


def sample(seed: int, count: int = 25) -> tuple[np.ndarray, InstanceMap]:
    rng = np.random.default_rng(seed)
    polygons = ellipse_polygons(rng, count, H, W)
    return paint(polygons, rng, H, W), InstanceMap.from_polygons(polygons, H, W)


IMAGE, CELLS = sample(0)
DONOR = sample(1)


def donor(_: np.random.Generator) -> tuple[np.ndarray, InstanceMap]:
    return DONOR


def full_masks(cells: InstanceMap) -> dict[int, np.ndarray]:
    """id → (H, W) bool, one full frame per instance."""
    out = {}
    for instance in cells:
        mask = np.zeros(cells.shape, np.uint8)
        x0, y0, x1, y1 = instance.box
        mask[y0:y1, x0:x1] = instance.mask
        out[instance.id] = mask
    return out


@pytest.mark.parametrize("name", BASELINES)
def test_layers_give_what_n_masks_give(name):
    """The reference is Albumentations itself with one binary mask per cell and the same random state."""
    document = baseline(name)
    masks = full_masks(CELLS)
    for draw in range(4):
        image, cells = apply_policy(document, IMAGE, CELLS, seed=5, image_id="a", draw=draw, donor=donor, min_area=1)
        compose = document.compose()
        entropy = sample_seed(5, "a", draw)
        compose.set_random_state(np.random.default_rng(entropy).spawn(2)[0], random.Random(entropy))
        extra = {}
        if document.needs_donor:
            extra["copy_paste_metadata"] = {"image": DONOR[0], "masks": np.stack(list(full_masks(DONOR[1]).values()))}
        expected = compose(image=IMAGE, masks=np.stack(list(masks.values())), **extra)
        np.testing.assert_array_equal(image, expected["image"])
        visible = [m.astype(bool) for m in expected["masks"] if m.any()]
        assert len(cells) == len(visible) > 0
        found = sorted(m.astype(bool).tobytes() for m in full_masks(cells).values())
        assert found == sorted(m.tobytes() for m in visible)


class Draws:
    """A map-style dataset that applies a policy, as a training loop would."""

    def __init__(self, policy: str) -> None:
        self.augment = Augmenter(baseline(policy))

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, cells = self.augment(IMAGE, CELLS, seed=1, image_id=f"image {index // 2}", draw=index % 2, donor=donor)
        return image, cells.label_image().astype(np.int32)


def test_same_draws_with_0_and_2_workers_and_in_every_epoch():
    from torch.utils.data import DataLoader

    runs = []
    for workers in (0, 2, 2):
        loader = DataLoader(Draws("random_choice"), batch_size=None, num_workers=workers, shuffle=False)
        runs.append([(i.numpy().copy(), m.numpy().copy()) for i, m in loader])
    for other in runs[1:]:
        for (image, labels), (image2, labels2) in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(image, image2)
            np.testing.assert_array_equal(labels, labels2)
    different = {image.tobytes() + labels.tobytes() for image, labels in runs[0]}
    assert len(different) == 6, "every image and draw index has its own draw"


def test_gates_of_a_stack_are_independent():
    """`set_random_seed` of Albumentations 2.0.8 opens all gates together; ours must not."""
    image = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
    document = PolicyDocument.from_compose(
        A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.InvertImg(p=0.5)])
    )
    augment, seen = Augmenter(document), Counter()
    outcomes = {}
    for h in (0, 1):
        for v in (0, 1):
            for i in (0, 1):
                flipped = image[:: 1 - 2 * v, :: 1 - 2 * h]
                outcomes[(255 - flipped if i else flipped).tobytes()] = (h, v, i)
    for draw in range(800):
        out, _ = augment(image, InstanceMap.empty(16, 16), seed=0, image_id="x", draw=draw)
        seen[outcomes[out.tobytes()]] += 1
    assert len(seen) == 8
    assert max(abs(n - 100) for n in seen.values()) < 40  # 4 standard deviations


@pytest.mark.parametrize(("make", "axes"), [(lateral_stretch, 1), (crop_resize, 2)])
def test_crops_keep_size_show_no_border_and_cover_the_factors(make, axes):
    """A picture of its own coordinates tells which part of it is shown."""
    height, width = 200, 300
    ys, xs = np.mgrid[0:height, 0:width]
    coordinates = np.stack([xs * 0.8 + 5, ys * 0.8 + 5, xs * 0], -1).astype(np.uint8)  # 5 … 245: 0 would be a border
    augment = Augmenter(PolicyDocument.from_compose(A.Compose([make()])))
    factors, ratios, corners = [], [], []
    for draw in range(300):
        out, _ = augment(coordinates, InstanceMap.empty(height, width), seed=0, image_id="x", draw=draw)
        assert out.shape == coordinates.shape
        assert out[..., :2].min() >= 5
        kept_x = (float(out[100, -1, 0]) - float(out[100, 0, 0])) / 0.8 / (width - 1)
        kept_y = (float(out[-1, 150, 1]) - float(out[0, 150, 1])) / 0.8 / (height - 1)
        assert -0.02 < kept_x - np.clip(kept_x, 0.5, 1.0) < 0.02
        factors.append(min(kept_x, kept_y))
        ratios.append(kept_x / kept_y)
        corners.append((float(out[100, 0, 0]) - 5) / 0.8 / width)
    assert min(factors) < 0.54
    assert max(factors) > 0.96
    assert abs(np.mean(factors) - 0.75) < 0.03
    assert max(corners) > 0.3, "crops lie anywhere, not in the middle only"
    if axes == 2:
        np.testing.assert_allclose(ratios, 1.0, atol=0.04)
    else:
        assert all(abs(r - 1) < 0.05 or f < 1 for r, f in zip(ratios, factors, strict=True))
        stretched_x = sum(r < 0.97 for r in ratios)
        assert 100 < stretched_x < 180


def test_copy_paste_occludes_and_counts():
    cells = InstanceMap.from_labels(np.pad(np.full((10, 10), 1, np.int32), ((0, 30), (0, 30))))
    below = np.full((40, 40), 100, np.uint8)
    over = InstanceMap.from_labels(np.pad(np.full((6, 20), 1, np.int32), ((2, 32), (5, 15))))
    document = PolicyDocument.from_compose(A.Compose([CopyPaste(paste_probability=1.0)]))
    image, out = apply_policy(
        document, below, cells, seed=0, image_id="x", draw=0, donor=lambda g: (np.full((40, 40), 7, np.uint8), over)
    )
    assert out.areas().tolist() == [100 - 6 * 5, 120]
    assert (image == 7).sum() == 120
    np.testing.assert_array_equal(out.foreground(), cells.foreground() | over.foreground())
    assert not (out.layers.astype(bool).sum(0) > 1).any(), "the covered part belongs to the pasted cell alone"


def test_paste_probability_is_per_instance():
    counts = [
        len(apply_policy(baseline("simple_copy_paste"), IMAGE, InstanceMap.empty(H, W), seed=0, image_id="x", draw=d,
                         donor=donor, min_area=1)[1])
        for d in range(200)
    ]  # fmt: skip
    expected = 0.25 * len(DONOR[1])
    assert abs(np.mean(counts) - expected) < 4 * np.sqrt(expected * 0.75 / 200)
    assert np.std(counts) < 2.5, "one coin per instance, not one for all"


def test_donors_of_another_size_and_channel_count():
    small = (DONOR[0][:50, :60].copy(), DONOR[1].map_layers(lambda p: np.ascontiguousarray(p[:50, :60])))
    colour = np.repeat(IMAGE[..., None], 3, 2)
    for name in ("simple_copy_paste", "scaled_copy_paste"):
        image, cells = apply_policy(baseline(name), colour, CELLS, seed=0, image_id="x", draw=1, donor=lambda g: small)
        assert image.shape == colour.shape
        assert cells.shape == (H, W)
    big = (
        cv2.resize(DONOR[0], (300, 200)),
        InstanceMap.from_labels(cv2.resize(DONOR[1].label_image(), (300, 200), interpolation=0)),
    )
    _, cells = apply_policy(
        baseline("simple_copy_paste"), IMAGE, CELLS, seed=0, image_id="x", draw=1, donor=lambda g: big
    )
    assert len(cells) >= len(CELLS) - 5


def test_bad_use_is_refused():
    with pytest.raises(PolicyError, match="donor"):
        apply_policy(baseline("simple_copy_paste"), IMAGE, CELLS, seed=0, image_id="x", draw=0)
    with pytest.raises(ValueError, match="frame"):
        apply_policy(baseline("flip"), IMAGE[:50], CELLS, seed=0, image_id="x", draw=0)
    resize = PolicyDocument.from_compose(A.Compose([A.Resize(height=20, width=20, p=1.0)]))
    with pytest.raises(PolicyError, match="keep size"):
        apply_policy(resize, IMAGE, CELLS, seed=0, image_id="x", draw=0)


def test_images_without_cells_pass_every_policy():
    for name in BASELINES:
        image, cells = apply_policy(
            baseline(name), IMAGE, InstanceMap.empty(H, W), seed=0, image_id="x", draw=0,
            donor=lambda g: (IMAGE, InstanceMap.empty(H, W)),
        )  # fmt: skip
        assert (image.shape, len(cells)) == ((H, W), 0)


def test_specks_are_dropped_and_large_cells_are_not():
    document = baseline("crop")
    whole = apply_policy(document, IMAGE, CELLS, seed=0, image_id="x", draw=0, min_area=1)[1]
    kept = apply_policy(document, IMAGE, CELLS, seed=0, image_id="x", draw=0, min_area=40)[1]
    areas = dict(zip(whole.ids.tolist(), whole.areas().tolist(), strict=True))
    assert kept.ids.tolist() == [i for i, a in areas.items() if a >= 40]
    assert len(kept) < len(whole)


def test_the_input_is_left_as_it_was():
    """`AutoContrast` of Albumentations 2.0.8 writes into its input."""
    dark = (IMAGE // 3).copy()
    before, layers = dark.copy(), CELLS.layers.copy()
    document = PolicyDocument.from_compose(A.Compose([A.AutoContrast(p=1.0), A.HorizontalFlip(p=1.0)]))
    out, _ = apply_policy(document, dark, CELLS, seed=0, image_id="x", draw=0)
    assert out.max() > before.max()
    np.testing.assert_array_equal(dark, before)
    np.testing.assert_array_equal(CELLS.layers, layers)


def test_transform_and_donor_draw_from_the_two_children_of_the_sample_seed():
    seen = []

    def drawn(generator: np.random.Generator) -> tuple[np.ndarray, InstanceMap]:
        seen.append(generator.integers(1 << 60, size=3).tolist())
        return DONOR

    apply_policy(baseline("simple_copy_paste"), IMAGE, CELLS, seed=4, image_id="b", draw=2, donor=drawn)
    second = np.random.default_rng(sample_seed(4, "b", 2)).spawn(2)[1]
    assert seen == [second.integers(1 << 60, size=3).tolist()]


def test_a_layer_whose_cells_leave_the_frame_is_dropped():
    layers = np.zeros((2, H, W), np.uint16)
    layers[0, 40:60, 50:70], layers[1, 2:9, 2:9] = 1, 2
    zoom = PolicyDocument.from_compose(A.Compose([A.Affine(scale=(2.0, 2.0), p=1.0)]))
    _, cells = apply_policy(zoom, IMAGE, InstanceMap(layers), seed=0, image_id="x", draw=0, min_area=1)
    assert cells.layers.shape == (1, H, W)
    assert cells.ids.tolist() == [1]
    _, cells = apply_policy(zoom, IMAGE, InstanceMap(layers[1:]), seed=0, image_id="x", draw=0, min_area=1)
    assert cells.layers.shape == (0, H, W)
