"""ResNeSt: bottlenecks with split attention, and with modulated deformable convolutions where asked.

Zhang et al., ResNeSt: Split-Attention Networks (2020); Zhu et al., Deformable ConvNets v2 (2019), equation 1. Names and
shapes of the weights are those of LIVECell's published models.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from policy_search.cells.errors import InputError

NormLayer = Callable[[int], nn.Module] | str
TAPS = 9  # of a 3x3 kernel
REDUCTION = 4
MIN_ATTENTION = 32  # channels between the two layers of the attention


class DeepStem(CNNBlockBase):
    """Three 3x3 convolutions and a max pool: (B, C, H, W) → (B, out_channels, H/4, W/4)."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormLayer) -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        self.conv1_1 = _conv(in_channels, half, 3, norm, stride=2)
        self.conv1_2 = _conv(half, half, 3, norm)
        self.conv1_3 = _conv(half, out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class ModulatedDeformConv(nn.Module):
    """A 3x3 convolution, stride 1, no bias, whose taps are moved by `offset` and weighed by `mask`."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, 3, 3))
        self.bias = None
        weight_init.c2_msra_fill(self)

    def forward(self, x: Tensor, field: Tensor) -> Tensor:
        """(B, C, H, W) → (B, out, H, W).

        Args:
            field: (B, 27·G, H, W) for G groups of input channels: first 18·G channels of offsets in pixels, for each
                group and tap down then right; then 9·G logits, whose sigmoid is the weight of each tap.
        """
        offset, logits = field.split([2 * field.shape[1] // 3, field.shape[1] // 3], dim=1)
        # torchvision has no half-precision kernel for CPUs, and autocast does not know the operation there.
        kind = self.weight.dtype if x.device.type == "cpu" else x.dtype
        return deform_conv2d(
            x.to(kind), offset.to(kind), self.weight.to(kind), padding=1, mask=logits.sigmoid().to(kind)
        )


class SplitAttention(nn.Module):
    """A 3x3 convolution into `radix` splits, summed with weights from their pooled sum (the paper's equations 3-5)."""

    def __init__(self, channels: int, radix: int, cardinality: int, norm: NormLayer, deformable: bool) -> None:
        super().__init__()
        self.radix, self.cardinality = radix, cardinality
        inner = max(channels * radix // REDUCTION, MIN_ATTENTION)
        groups = cardinality * radix
        if deformable:
            self.conv: nn.Module = ModulatedDeformConv(channels, channels * radix, groups)
        else:
            self.conv = _conv(channels, channels * radix, 3, "", groups=groups)
        self.bn0 = get_norm(norm, channels * radix)
        self.fc1 = nn.Conv2d(channels, inner, 1, groups=cardinality)
        self.bn1 = get_norm(norm, inner)
        self.fc2 = nn.Conv2d(inner, channels * radix, 1, groups=cardinality)

    def forward(self, x: Tensor, field: Tensor | None = None) -> Tensor:
        """(B, C, H, W) → the same; `field` for a deformable convolution."""
        x = self.conv(x) if field is None else self.conv(x, field)
        splits = F.relu_(self.bn0(x)).chunk(self.radix, dim=1)
        if len(x) == 1 and self.training and isinstance(self.bn1, nn.BatchNorm2d):
            raise InputError(
                "a ResNeSt backbone normalises one value per image and channel, so it trains on 2 images a batch or "
                "more, got 1: raise --batch, or freeze the backbone"
            )
        pooled = sum(splits).mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        logits = self.fc2(F.relu_(self.bn1(self.fc1(pooled))))  # (B, C·radix, 1, 1)
        return sum(weight * split for weight, split in zip(self._weights(logits), splits, strict=True))

    def _weights(self, logits: Tensor) -> tuple[Tensor, ...]:
        if self.radix == 1:
            return (logits.sigmoid(),)
        # fc2 orders its channels by group, then split; the splits of the convolution are ordered by split, then group.
        batch = len(logits)
        weights = logits.view(batch, self.cardinality, self.radix, -1).transpose(1, 2).softmax(dim=1)
        return weights.reshape(batch, -1, 1, 1).chunk(self.radix, dim=1)


class ResNeStBlock(CNNBlockBase):
    """1x1, split attention, 1x1, added to a shortcut; average pools stride, never a convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int,
        radix: int,
        cardinality: int,
        norm: NormLayer,
        deform_groups: int = 0,
    ) -> None:
        """`deform_groups` of 0: no deformable convolution."""
        super().__init__(in_channels, out_channels, stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm)
        self.conv2_offset = None
        if deform_groups:
            field = 3 * TAPS * deform_groups
            self.conv2_offset = nn.Conv2d(bottleneck_channels, field, 3, padding=1, groups=deform_groups)
            # Training starts from the undeformed grid.
            nn.init.zeros_(self.conv2_offset.weight)
            nn.init.zeros_(self.conv2_offset.bias)
        self.conv2 = SplitAttention(bottleneck_channels, radix, cardinality, norm, deformable=deform_groups > 0)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)
        self.shortcut_pool: nn.Module = nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            if stride > 1:
                self.shortcut_pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            self.shortcut = _conv(in_channels, out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        out = self.conv2(out) if self.conv2_offset is None else self.conv2(out, self.conv2_offset(out))
        out = self.conv3(self.pool(out))
        return F.relu_(out + self.shortcut(self.shortcut_pool(x)))


def _conv(inputs: int, outputs: int, kernel: int, norm: NormLayer, stride: int = 1, groups: int = 1) -> Conv2d:
    conv = Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False, norm=get_norm(norm, outputs)
    )
    weight_init.c2_msra_fill(conv)
    return conv
