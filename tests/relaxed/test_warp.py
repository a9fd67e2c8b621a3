"""Matrices and the warp, against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed import warp
from tests.relaxed.textures import culture


def pair(size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = culture(0, size=size)
    return torch.from_numpy(image)[None, None].float() / 255, torch.from_numpy(mask)[None, None].float()


def test_a_general_matrix_matches_opencv() -> None:
    image, mask = pair()
    t = torch.tensor
    matrix = warp.translation(t([5.0]), t([-3.0])) @ warp.rotation(t([20.0])) @ warp.scaling(t([1.3]), t([0.8]))
    ours, our_mask = warp.warp(image, mask, matrix, 0.4)
    about = np.array([[1, 0, 47.5], [0, 1, 47.5], [0, 0, 1]])
    full = about @ matrix[0].double().numpy() @ np.linalg.inv(about)
    levels = (image[0, 0] * 255).round().byte().numpy()
    expected = cv2.warpAffine(levels, full[:2], (96, 96), flags=cv2.INTER_LINEAR, borderValue=102)
    assert np.abs(ours[0, 0].numpy() * 255 - expected).mean() < 0.05
    expected_mask = cv2.warpAffine(mask[0, 0].byte().numpy(), full[:2], (96, 96), flags=cv2.INTER_NEAREST)
    assert (our_mask[0, 0].numpy() == expected_mask).mean() > 0.995


def test_only_the_middle_is_rendered_when_asked() -> None:
    image, mask = pair()
    matrix = warp.rotation(torch.tensor([33.0]))
    whole = warp.warp(image, mask, matrix, 0.5)
    for size in (40, 41):
        part = warp.warp(image, mask, matrix, 0.5, size)
        assert torch.equal(part[1], warp.centre(whole[1], size))
        assert (part[0] - warp.centre(whole[0], size)).abs().max() <= 1.01 / 255


def test_the_mask_is_binary_but_sends_a_gradient() -> None:
    image, mask = pair()
    degrees = torch.tensor([10.0], requires_grad=True)
    _, turned = warp.warp(image, mask, warp.rotation(degrees), 0.5)
    assert set(turned.unique().tolist()) == {0.0, 1.0}
    ramp = torch.linspace(0, 1, 96)[None, None, :, None]
    (gradient,) = torch.autograd.grad((turned * ramp * ramp.transpose(2, 3)).sum(), degrees)
    assert gradient.abs().item() > 0


def plain(image: Tensor, mask: Tensor, matrix: Tensor, fill: float, size: int) -> tuple[Tensor, Tensor]:
    """By torch alone, bilinear image and mask without rounding: what the warp's gradient is that of."""
    height, width = image.shape[2:]
    inverse = torch.linalg.inv(matrix)
    places = torch.arange(size, dtype=matrix.dtype) - (size - 1) / 2
    y, x = (places - 0.5 * ((side - size) % 2) for side in (height, width))
    target = torch.stack([x.expand(size, -1), y[:, None].expand(-1, size), torch.ones(size, size)], -1)
    source = target.to(matrix.dtype) @ inverse[:, None, :2].transpose(2, 3)
    grid = source * torch.tensor([2 / width, 2 / height], dtype=matrix.dtype)
    above, cells = (functional.grid_sample(part, grid, align_corners=False) for part in (image - fill, mask))
    return above + fill, cells


def several(channels: int, count: int, side: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    """Images, masks and matrices (with every entry in use)."""
    pairs = [culture(seed, size=side) for seed in range(count)]
    image = (
        torch.stack([torch.from_numpy(np.stack([i, i[::-1], i[:, ::-1]][:channels])) for i, _ in pairs]).float() / 255
    )
    mask = torch.stack([torch.from_numpy(m)[None] for _, m in pairs]).float()
    matrix = torch.eye(3) + 0.15 * torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(count))
    matrix[:, :2, 2] *= 40
    matrix[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    return image, mask, matrix


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weights = [torch.randn(o.shape, generator=torch.Generator().manual_seed(7)).to(o.dtype) for o in outputs]
    return torch.autograd.grad(outputs, inputs, weights)


@pytest.mark.parametrize(("channels", "count", "side", "size"), [(1, 3, 96, 48), (3, 2, 97, 60), (1, 2, 300, 257)])
def test_the_gradients_are_those_of_the_bilinear_warp(channels: int, count: int, side: int, size: int) -> None:
    """To image, mask and matrix, at odd and even differences of sides, and where images are warped one at a time."""
    parts = [p.requires_grad_() for p in several(channels, count, side)]
    ours = gradients(warp.warp(*parts, 0.4, size), parts)
    doubles = [p.detach().double().requires_grad_() for p in parts]
    theirs = gradients(plain(*doubles, 0.4, size), doubles)
    for found, expected in zip(ours, theirs, strict=True):
        assert (found - expected).norm() < 2e-3 * expected.norm()


def test_the_gradient_to_the_matrix_is_the_difference() -> None:
    """Of smooth images, whose values no rounding steps through."""
    _, mask, matrix = several(1, 2)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    smooth = (0.5 + 0.2 * torch.sin(x / 9) * torch.cos(y / 7)).expand(2, 1, -1, -1)
    weight = torch.cos(x / 11 + y / 5)[24:72, 24:72]

    def value(at: Tensor) -> Tensor:
        return (warp.warp(smooth, mask, at, 0.5, 48, mask_gradient=False)[0] * weight).sum((1, 2, 3))

    at = matrix.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(at).sum(), at)
    for row in range(2):
        for column in range(3):
            step = torch.zeros(3, 3)
            step[row, column] = 0.5 if column == 2 else 0.02
            expected = (value(matrix + step) - value(matrix - step)).double() / (2 * step.sum())
            slack = 0.03 * expected.abs().max().item()
            torch.testing.assert_close(found[:, row, column].double(), expected, rtol=0.05, atol=slack)


def test_an_affine_inverse_is_the_inverse() -> None:
    matrix = several(1, 8)[2].double()
    torch.testing.assert_close(warp.inverted(matrix), torch.linalg.inv(matrix), rtol=1e-12, atol=1e-12)


def test_an_unused_mask_costs_no_gradient_and_changes_none() -> None:
    image, mask, matrix = several(1, 2)
    matrix.requires_grad_()
    found = []
    for wanted in (True, False):
        moved, cells = warp.warp(image, mask, matrix, 0.4, 48, mask_gradient=wanted)
        assert cells.requires_grad == wanted
        found.append(torch.autograd.grad(moved.square().sum(), matrix)[0])
    assert torch.equal(*found)


def test_the_layout_in_memory_does_not_matter() -> None:
    image, mask, matrix = several(3, 2)
    plain_one, other = (
        warp.warp(part, mask, matrix, 0.4, 48)[0] for part in (image, image.to(memory_format=torch.channels_last))
    )
    assert torch.equal(plain_one, other)
