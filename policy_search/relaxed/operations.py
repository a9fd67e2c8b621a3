"""One relaxed operation: its magnitude's bounds, how it acts on image and mask, and its Albumentations twin.

An operation holds no learnt numbers (policy.py does) and no randomness but what it is handed. What every entry of the
catalogue must do is in the docstring of `Operation` and is tested for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import albumentations as A
import torch
from torch import Tensor

from policy_search.relaxed import occlusion, tone
from policy_search.relaxed.warp import drift, warp


class Group(StrEnum):
    """What an operation changes. Stages choose within groups, and the search keeps a floor under each."""

    POSE = "pose"
    SHAPE = "shape"
    TONE = "tone"
    TEXTURE = "texture"
    OCCLUSION = "occlusion"


Plan = tuple[tuple[str, ...], ...]  # groups, or names of operations

# Which groups each stage chooses from: geometry first, so that one warp does it, then pixels, as optics and camera do.
PLAN: Plan = ((Group.POSE,), (Group.SHAPE,), (Group.TONE,), (Group.TEXTURE, Group.OCCLUSION))


def simple_plan(names: Sequence[str]) -> Plan:
    """A stage for every operation, in the order given: no choices, one gate and one range each."""
    return tuple((name,) for name in names)


def free_plan(stages: int) -> Plan:
    """Every stage chooses from all operations, as in Faster AutoAugment."""
    return (tuple(Group),) * stages


@dataclass(frozen=True)
class Emission:
    """What an emitted transform needs beyond its magnitudes.

    Attributes:
        fill: grey level (0 to 255) of what a warp or a hole uncovers.
        holes: holes per image, so that an image larger than the searched crop has as many per area.
        extent: side of the image over side of the searched crop, so that a gradient keeps its steepness per pixel.
    """

    fill: int
    holes: int = 1
    extent: float = 1.0


@dataclass(frozen=True)
class Range:
    """Bounds of a magnitude, in the unit of the emitted transform.

    Attributes:
        low, high: the learnt range never leaves them.
        identity: the magnitude at which the operation does nothing (may lie outside of the bounds).
        start: the range before learning.
        logarithmic: the learnt ends move in the logarithm (factors), though a draw is uniform in the unit itself.
        whole: draws are whole numbers, uniform over both rounded ends and all between.
        rest: a magnitude that changes (next to) nothing and from which the effect grows smoothly, for searches that
            start from the identity. Noise starts a little up: its effect grows with the square, without gradient at 0.
        single: the emitted transform takes one number, not two: both ends are the middle, and `start` is that twice.
    """

    low: float
    high: float
    identity: float
    start: tuple[float, float]
    logarithmic: bool = False
    whole: bool = False
    single: bool = False
    rest: float | None = None

    def forward(self, value: float) -> float:
        """The unit in which the ends are learnt."""
        return math.log(value) if self.logarithmic else value

    def ends(self, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Ordered ends within the bounds, from two raw numbers of any size; the gradient reaches both for ever."""
        low, high = self.forward(self.low), self.forward(self.high)
        middle = torch.sigmoid(centre)
        # Tied to the width by 0, so that every parameter always has a gradient.
        half = 0 * width if self.single else torch.sigmoid(width) * torch.minimum(middle, 1 - middle)
        ends = low + (high - low) * (middle - half), low + (high - low) * (middle + half)
        return (ends[0].exp(), ends[1].exp()) if self.logarithmic else ends

    def raw_start(self) -> tuple[float, float]:
        """The raw centre and width at which `ends` gives `start`."""
        low, high = self.forward(self.low), self.forward(self.high)
        first, last = ((self.forward(end) - low) / (high - low) for end in self.start)
        middle = (first + last) / 2
        if self.single:
            return math.log(middle / (1 - middle)), 0.0
        half = (last - first) / 2 / min(middle, 1 - middle)
        return math.log(middle / (1 - middle)), math.log(half / (1 - half))

    def raw_centre(self, magnitude: float) -> float:
        """The raw centre whose middle is `magnitude`, kept a little off the bounds, where the gradient would vanish."""
        low, high = self.forward(self.low), self.forward(self.high)
        place = min(max((self.forward(magnitude) - low) / (high - low), 0.003), 0.997)
        return math.log(place / (1 - place))

    def draw(self, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
        """Magnitudes uniform between the ends (all (B,)), reparameterised; `uniform` in [0, 1)."""
        smooth = low + uniform * (high - low)
        if not self.whole:
            return smooth
        first, last = low.detach().round(), high.detach().round()
        # Guards the one float below 1 that would round up to the number after `last`.
        steps = torch.minimum(torch.floor(uniform * (last - first + 1)), last - first)
        return tone.straight_through(first + steps, smooth)


@dataclass(frozen=True)
class Operation:
    """One entry of the catalogue.

    The contract, tested for each: the identity at magnitude `Range.identity`; gradient to the gate and to both ends of
    the range; masks leave as 0 or 1, follow geometry exactly and are untouched by tone and texture; one and three
    channels; `emit` gives the Albumentations transform with the same pixels and mask at the same magnitude.

    Exactly one of `matrix` (geometry), `curve` (tone), `pixels` (texture; image only), `hole` and `paste` (occlude
    image and mask) is set.

    Attributes:
        name: unique in the catalogue.
        group: see Group.
        magnitude: None for an operation that is either done or not.
        emit: (low, high, emission) -> the transform, with p=1.
        matrix: (B,) -> (B, 3, 3) about the origin.
        drift: with `matrix`: the lower end of the range (B,) -> the share (B,) of the image's sides by which it moves
            afterwards, at most and either way, to a place drawn by two noise numbers.
        curve: (curve (B, C, 256), histogram (B, C, 256), (B,), *noise) -> curve; see curves.py.
        pixels: (image, (B,), generator) -> image.
        hole: (height (B,), width (B,), (H, W), generator) -> indicator (B, 1, H, W).
        paste: (image, labels (B, 1, H, W), generator) -> donors like the image, and the indicator (B, 1, H, W) of
            what is seen of them. Over the whole batch: it takes the donors from there.
        gate_scales: the gate multiplies the distance of the magnitude from the identity; otherwise it blends the
            output with the input. The value is the same, as gates are 0 or 1; the gradient is the better one of the
            two for operations that are smooth at their identity, and no other has any there.
        noise: how many uniform numbers (B,) in [0, 1) `curve` or `drift` takes for each image.
        opt_in: only used where it is named, as it asks more of the caller (labels here, donors of the policy's user).
    """

    name: str
    group: Group
    magnitude: Range | None
    emit: Callable[[float, float, Emission], A.BasicTransform]
    matrix: Callable[[Tensor], Tensor] | None = None
    drift: Callable[[Tensor], Tensor] | None = None
    curve: Callable[..., Tensor] | None = None
    pixels: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None
    hole: Callable[[Tensor, Tensor, tuple[int, int], torch.Generator], Tensor] | None = None
    paste: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]] | None = None
    gate_scales: bool = True
    noise: int = 0
    opt_in: bool = False

    def __post_init__(self) -> None:
        if [self.matrix, self.curve, self.pixels, self.hole, self.paste].count(None) != 4:
            raise ValueError(
                f"operation {self.name!r}: exactly one of matrix, curve, pixels, hole and paste must be given"
            )

    @property
    def identity(self) -> float:
        """The magnitude that does nothing; an operation without a magnitude is done by 1 and undone by 0."""
        return 0.0 if self.magnitude is None else self.magnitude.identity

    @property
    def rests(self) -> bool:
        """Whether it can grow from nothing."""
        return self.magnitude is not None and self.magnitude.rest is not None

    @property
    def keeps_area(self) -> bool:
        """Whether cells cover as many pixels afterwards; only geometry may change that."""
        if self.matrix is None or self.magnitude is None:
            return True
        widest = self.matrix(torch.tensor([float(self.magnitude.high)]))
        return bool((torch.linalg.det(widest).abs() - 1).abs() < 1e-3)

    def draw(self, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
        """Magnitudes (B,) within the ends (B,); 1 where there is no magnitude."""
        return torch.ones_like(uniform) if self.magnitude is None else self.magnitude.draw(low, high, uniform)

    def effective(self, magnitude: Tensor, gate: Tensor | None) -> Tensor:
        """What the operation is given: the magnitude (B,), drawn to the identity by the gate (B,) where that scales."""
        scales = self.gate_scales and gate is not None
        return self.identity + gate * (magnitude - self.identity) if scales else magnitude

    def move(self, magnitude: Tensor, low: Tensor, noise: Tensor, extent: Sequence[int] | None) -> Tensor:
        """The matrix (B, 3, 3) of this geometric operation.

        Args:
            magnitude, low: (B,), as drawn and the lower end of the range it was drawn from.
            noise: (B, 2) or more, uniform in [0, 1).
            extent: (H, W) of the image that is moved; None leaves it about its middle.
        """
        if self.matrix is None:
            raise ValueError(f"operation {self.name!r} is not a geometric one: it has no matrix to move by")
        matrix = self.matrix(magnitude)
        if self.drift is None or extent is None:
            return matrix
        return drift(self.drift(low), noise[:, : self.noise], extent) @ matrix

    def bend(self, curve: Tensor, histogram: Tensor, magnitude: Tensor, gate: Tensor | None, noise: Tensor) -> Tensor:
        """The curve (B, C, 256) after this tone operation.

        Args:
            curve: what the image's levels are mapped to so far.
            histogram: (B, C, 256), of the image before any curve.
            magnitude, gate: (B,); None for a gate is an open one without a gradient.
            noise: (B, self.noise) uniform in [0, 1).
        """
        if self.curve is None:
            raise ValueError(f"operation {self.name!r} is not a tone operation: it has no curve to bend")
        changed = self.curve(curve, histogram, self.effective(magnitude, gate), *noise.unbind(1))
        blends = gate is not None and not self.gate_scales
        return curve + gate[:, None, None] * (changed - curve) if blends else changed

    def apply(
        self,
        image: Tensor,
        mask: Tensor,
        magnitude: Tensor,
        gate: Tensor | None,
        generator: torch.Generator,
        fill: float,
        *,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
        across: Tensor | None = None,
        low: Tensor | None = None,
        extent: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Apply to (B, C, H, W) in [0, 1] and (B, 1, H, W) in {0, 1}; magnitude and gate are (B,), fill in [0, 1].

        `gate` is 0 or 1 in value, None an open one without a gradient. `labels` (B, 1, H, W), instance ids of the
        images as they are handed in, are for `paste` alone; `noise` (B, self.noise) for `curve` and `drift`, drawn
        when None; `across` (B,) is the width of a `hole` whose height is the magnitude, a square when None; `low` (B,)
        is the lower end of the range, the magnitude when None, and `extent` (H, W) the middle of the images that is
        wanted, all when None, both for `drift`. Returns image and mask of the same shapes, on the 8-bit grid and
        binary.

        Raises:
            ValueError: a `paste` without labels.
        """
        if noise is None:
            # Without any, nothing is drawn.
            shape = (len(image), self.noise)
            noise = torch.rand(shape, generator=generator, device=image.device, dtype=image.dtype)
        if self.matrix is not None:
            least = self.effective(magnitude if low is None else low, gate)
            matrix = self.move(self.effective(magnitude, gate), least, noise, extent or image.shape[2:])
            return warp(image, mask, matrix, fill)
        if self.curve is not None:
            curve = self.bend(tone.identity_curve(image), tone.histogram(image), magnitude, gate, noise)
            return tone.apply_curve(image, curve), mask
        if self.pixels is not None:
            changed = self.pixels(image, self.effective(magnitude, gate), generator)
            blends = gate is not None and not self.gate_scales
            return (image + tone.columns(gate) * (changed - image) if blends else changed), mask
        if self.hole is not None:
            sides = [self.effective(side, gate) for side in (magnitude, magnitude if across is None else across)]
            indicator = self.hole(sides[0], sides[1], (image.shape[2], image.shape[3]), generator)
            indicator = indicator if self.gate_scales or gate is None else indicator * tone.columns(gate)
            return occlusion.occlude(image, mask, indicator, fill)
        if self.paste is not None:
            if labels is None:
                raise ValueError(
                    f"operation {self.name!r} pastes single cells and needs to tell them apart: pass `labels`, the "
                    "instance ids of the images, or leave it out of the operations"
                )
            donor, indicator = self.paste(image, labels, generator)
            indicator = indicator if gate is None else indicator * tone.columns(gate)
            return image + indicator * (donor - image), mask + indicator * (1 - mask)
        raise AssertionError("unreachable: __post_init__ has seen to it")
