"""Matrices and the warp, against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch

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
