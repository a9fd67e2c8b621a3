"""ResNeSt against timm, its deformable convolution against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from torch import nn

from detection.backbone import build_backbone
from detection.foreign import backbone_names
from detection.network import ModelConfig
from detection.presets import preset
from detection.resnest import ModulatedDeformConv, ResNeStBlock, SplitAttention
from policy_search.cells.errors import InputError

RESNEST_50 = ModelConfig(
    channels=3, block="resnest", stem=64, stages=(256, 512, 1024, 2048), blocks=(3, 4, 6, 3), radix=2
)
RESNEST_200 = RESNEST_50.model_copy(update={"stem": 128, "blocks": (3, 24, 36, 3)})


def shake(model: nn.Module, seed: int) -> nn.Module:
    """Normalisation that does something: statistics and scales off their neutral values."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
            nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "config", "size"),
    [
        ("resnest50d", RESNEST_50, (96, 70)),  # 70: average pools meet odd sizes
        ("resnest200e", RESNEST_200, (64, 64)),
        ("resnet50", preset("r50").network, (96, 70)),
    ],
)
def test_the_backbone_equals_timms(name, config, size):
    timm = pytest.importorskip("timm", reason="timm is not installed: it comes with the extra `dev`")
    theirs = shake(timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)), 3)
    ours = build_backbone(config).bottom_up.eval()
    names = backbone_names(theirs.state_dict())
    ours.load_state_dict({names[key]: value for key, value in theirs.state_dict().items()})
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = theirs(image), ours(image)
    for level, feature in zip(("res2", "res3", "res4", "res5"), expected, strict=True):
        assert found[level].shape == feature.shape
        assert (found[level] - feature).abs().max() <= 1e-5 * feature.abs().max()


def brute_force(x, weight, offset, mask, groups: int, deform_groups: int):
    """Equation 1 of Deformable ConvNets v2, one output at a time; pixels outside the image are 0."""
    channels, height, width = x.shape
    outputs = len(weight)

    def at(plane, y, x_):
        value = 0.0
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x_)), int(np.floor(x_)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    value += (1 - abs(y - row)) * (1 - abs(x_ - column)) * plane[row, column]
        return value

    found = np.zeros((outputs, height, width))
    for output, row, column in np.ndindex(outputs, height, width):
        for inner in range(channels // groups):
            source = output // (outputs // groups) * (channels // groups) + inner
            field = source // (channels // deform_groups)
            for tap in range(9):
                dy, dx = offset[field, tap, :, row, column]
                y, x_ = row + tap // 3 - 1 + dy, column + tap % 3 - 1 + dx
                share = weight[output, inner, tap // 3, tap % 3] * mask[field, tap, row, column]
                found[output, row, column] += share * at(x[source], y, x_)
    return found


def test_deformable_convolution_equals_plain_loops():
    rng = np.random.default_rng(0)
    conv = ModulatedDeformConv(4, 6, groups=2).double()
    x = rng.normal(size=(4, 5, 4))
    offset = rng.normal(0, 1.5, size=(2, 9, 2, 5, 4))
    logits = rng.normal(size=(2, 9, 5, 4))
    field = np.concatenate([offset.reshape(36, 5, 4), logits.reshape(18, 5, 4)])
    found = conv(torch.from_numpy(x)[None], torch.from_numpy(field)[None])[0].detach().numpy()
    expected = brute_force(x, conv.weight.detach().numpy(), offset, 1 / (1 + np.exp(-logits)), 2, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_without_offsets_and_with_full_masks_it_is_the_plain_convolution():
    conv = ModulatedDeformConv(8, 16, groups=4)
    x = torch.randn(2, 8, 9, 7)
    field = torch.cat([torch.zeros(2, 36, 9, 7), torch.full((2, 18, 9, 7), 40.0)], dim=1)
    expected = nn.functional.conv2d(x, conv.weight, padding=1, groups=4)
    torch.testing.assert_close(conv(x, field), expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_everything_in_a_deformable_block():
    torch.manual_seed(0)
    block = ResNeStBlock(
        16, 32, bottleneck_channels=8, stride=2, radix=2, cardinality=1, norm="BN", deform_groups=2
    ).train()
    assert not any(parameter.any() for parameter in block.conv2_offset.parameters())  # from the undeformed grid
    block(torch.randn(2, 16, 12, 10)).square().mean().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("radix", "cardinality"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 2)])
def test_attention_of_a_group_weighs_the_splits_of_that_group(radix, cardinality):
    # fc2 answers with its biases alone, so the weights are known: a softmax over radix within (group, channel).
    torch.manual_seed(0)
    attention = SplitAttention(8, radix, cardinality, "BN", deformable=False).eval()
    nn.init.zeros_(attention.fc2.weight)
    nn.init.normal_(attention.fc2.bias)
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        found = attention(x)
        splits = attention.bn0(attention.conv(x)).relu()
    expected = torch.zeros(2, 8, 6, 6)
    logits = attention.fc2.bias.detach().reshape(cardinality, radix, 8 // cardinality)
    for group, split, channel in np.ndindex(cardinality, radix, 8 // cardinality):
        weight = logits.sigmoid()[group, 0, channel] if radix == 1 else logits.softmax(1)[group, split, channel]
        place = group * (8 // cardinality) + channel
        expected[:, place] += weight * splits[:, split * 8 + place]
    torch.testing.assert_close(found, expected)


def test_one_image_a_batch_is_refused_in_training_alone():
    attention = SplitAttention(8, 2, 1, "BN", deformable=False)
    with pytest.raises(InputError, match="2 images a batch or more, got 1"):
        attention(torch.randn(1, 8, 6, 6))
    assert attention(torch.randn(2, 8, 6, 6)).shape == (2, 8, 6, 6)
    assert attention.eval()(torch.randn(1, 8, 6, 6)).shape == (1, 8, 6, 6)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_processor(kind):
    config = RESNEST_50.model_copy(
        update={
            "stem": 16,
            "stages": (32, 64, 96, 128),
            "blocks": (1, 1, 1, 1),
            "deformable": (False, True, True, True),
        }
    )
    bottom_up = build_backbone(config).bottom_up.eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = bottom_up(image)
        with torch.autocast("cpu", kind):
            rough = bottom_up(image)
    for level, feature in exact.items():
        assert (rough[level].float() - feature).abs().mean() < 0.05 * feature.abs().mean()
