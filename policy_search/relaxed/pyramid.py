"""The energy and shape of an image's texture at several scales and directions, with a gradient written out by hand.

Autograd would give the same gradient at several times the cost: every difference of neighbours is two slices, and the
gradient of a slice is a whole image of zeros. Here all of them are added up in one image for each octave.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

OCTAVES = 5
# Of the squared deviation and of the deviation: keep logarithms finite on flat crops.
_EPSILON, _FLOOR = 1e-3, 1e-2
# The neighbours whose difference is taken, as (rows, columns) of the one and of the other.
_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (
    ((_ALL, _LAST), (_ALL, _FIRST)),
    ((_LAST, _ALL), (_FIRST, _ALL)),
    ((_LAST, _LAST), (_FIRST, _FIRST)),
    ((_LAST, _FIRST), (_FIRST, _LAST)),
)
_PEAKED = 2  # directions of which the peakedness is taken; the only ones in the last octave
_POWERS = 3  # of the detail: 2, 3 and 4
_MOMENTS = len(_NEIGHBOURS) + _PEAKED + _POWERS  # in every octave but the last


def texture(image: Tensor) -> Tensor:
    """Statistics (B, D) of images (B, H, W); H and W at least 32. Differentiable once.

    Per octave: half log energies of the differences in four directions, how peaked they are along rows and columns,
    and skewness and peakedness of the detail. Peakedness tells cells that are larger from cells that are blurred.
    """
    moments: Tensor = _Moments.apply(image)  # type: ignore[no-untyped-call]
    upper = moments[:, : (OCTAVES - 1) * _MOMENTS].unflatten(1, (OCTAVES - 1, _MOMENTS))
    last = moments[:, (OCTAVES - 1) * _MOMENTS :]
    squares, sizes, powers = upper.split([len(_NEIGHBOURS), _PEAKED, _POWERS], 2)
    second, third, fourth = powers.split(1, 2)
    energy = second + _EPSILON
    skewness = third / energy**1.5
    peakedness = 0.25 * torch.log(fourth + _EPSILON**2) - 0.5 * torch.log(energy)
    found = torch.cat([_energies(squares), _peaks(squares[:, :, :_PEAKED], sizes), skewness, peakedness], 2)
    squares, sizes = last.split(_PEAKED, 1)
    return torch.cat([found.flatten(1), _energies(squares), _peaks(squares, sizes)], 1)


def _energies(squares: Tensor) -> Tensor:
    return 0.5 * torch.log(squares + _EPSILON)


def _peaks(squares: Tensor, sizes: Tensor) -> Tensor:
    return torch.log(sizes + _FLOOR) - _energies(squares)


class _Moments(torch.autograd.Function):
    """Per octave: mean squares of the differences, mean sizes of the first two, mean powers of the detail."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        pyramid, found = [image], []
        for octave in range(OCTAVES):
            differences = _differences(pyramid[-1], octave)
            found += [_mean(d.square()) for d in differences]
            found += [_mean(d.abs()) for d in differences[:_PEAKED]]
            if octave < OCTAVES - 1:
                pyramid.append(_halved(pyramid[-1]))
                detail = _detail(*pyramid[-2:])
                square = detail.square()
                found += [_mean(square), _mean(square * detail), _mean(square.square_())]
        ctx.save_for_backward(*pyramid)
        return torch.stack(found, 1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        pyramid, coarse = ctx.saved_tensors, None
        for octave in reversed(range(OCTAVES)):
            level = pyramid[octave]
            own = gradient[:, octave * _MOMENTS :, None, None]
            differences, total = _differences(level, octave), torch.zeros_like(level)
            for direction, (difference, (one, other)) in enumerate(zip(differences, _NEIGHBOURS, strict=False)):
                count = difference[0].numel()
                change = difference * (own[:, direction] * (2 / count))
                if direction < _PEAKED:
                    change.addcmul_(difference.sign(), own[:, len(differences) + direction] / count)
                total[(_ALL, *one)] += change
                total[(_ALL, *other)] -= change
            if coarse is not None:
                detail = _detail(level, pyramid[octave + 1])
                second, third, fourth = (
                    own[:, _MOMENTS - _POWERS + i] * ((i + 2) / detail[0].numel()) for i in range(_POWERS)
                )
                change = torch.addcmul(third, detail, fourth).mul_(detail).add_(second).mul_(detail)
                # The detail is the image less its coarser self, which sends its gradient down with the octaves above.
                part = total[:, : change.shape[1], : change.shape[2]]
                part += change
                part += _doubled(coarse / 4 - _halved(change))
            coarse = total
        assert coarse is not None  # there is at least one octave
        return coarse


def _differences(level: Tensor, octave: int) -> list[Tensor]:
    neighbours = _NEIGHBOURS[:_PEAKED] if octave == OCTAVES - 1 else _NEIGHBOURS
    return [level[(_ALL, *one)] - level[(_ALL, *other)] for one, other in neighbours]


def _detail(level: Tensor, half: Tensor) -> Tensor:
    """What an octave (B, H, W) has and the coarser one has not; without its last row or column where that is odd."""
    return level[:, : 2 * half.shape[1], : 2 * half.shape[2]] - _doubled(half)


def _halved(level: Tensor) -> Tensor:
    """Means of squares of four pixels; a last odd row or column is left out. Three times as fast as avg_pool2d."""
    height, width = (side // 2 * 2 for side in level.shape[1:])
    rows = level[:, :height:2] + level[:, 1:height:2]
    return (rows[:, :, :width:2] + rows[:, :, 1:width:2]).mul_(0.25)


def _doubled(half: Tensor) -> Tensor:
    return functional.interpolate(half[:, None], scale_factor=2)[:, 0]


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2))
