"""How a policy acts on a batch of images: fused (one warp and one tone curve an image) or soft (everything, blended).

In the forward value each image goes through one sub-policy, one operation per stage, on or off, exactly as
Albumentations will run it, so image and mask always belong together (no half-blended ghost under a sharp mask) and the
searched images have the statistics of the emitted ones. (One exception: consecutive warps are resampled once here,
twice there.) Only the gradient is relaxed, in one of two ways:

* "fused" (default): all geometry is composed into one affine matrix and all tone into one curve of 256 entries per
  image and channel, both with every operation of the stage in them, weighted by the drawn zeros and ones, and only
  then applied, once. What a choice or a gate would change is thus known for all operations at the cost of a few small
  tables, whatever the number of stages and operations. Texture and occlusion are computed for the drawn operation.
* "soft": all K operations are computed on the images and the gradient is that of their weighted sum with relaxed gates
  (Faster AutoAugment's form) around the same hard value. K times the cost.

Magnitudes are reparameterised; choices and gates pass straight through the softmax and the relaxed Bernoulli.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed import tone
from policy_search.relaxed.operations import Group
from policy_search.relaxed.policy import Draw, RelaxedPolicy
from policy_search.relaxed.ranges import ranges
from policy_search.relaxed.stages import Stage, apply_drawn
from policy_search.relaxed.tone import straight_through
from policy_search.relaxed.warp import centre, identity_matrix, warp, warp_labels

Application = Literal["fused", "soft"]
# The order in which fused stages must come: what is composed first has to be applied first.
_ORDER = {Group.POSE: 0, Group.SHAPE: 0, Group.TONE: 1, Group.TEXTURE: 2, Group.OCCLUSION: 2}


class Drawn(NamedTuple):
    """A draw in numbers, each (B, S, K), differentiable.

    Attributes:
        on: 1 where the operation is chosen and its gate open, else 0; straight-through.
        share: probability of being chosen.
        gate: 0 or 1, straight-through.
        magnitude: within the ends; 1 for operations without one.
        across: a second draw within the same ends: the width of a hole whose height is the magnitude.
        low: the lower end.
    """

    on: Tensor
    share: Tensor
    gate: Tensor
    magnitude: Tensor
    across: Tensor
    low: Tensor


def resolve(policy: RelaxedPolicy, draw: Draw) -> Drawn:
    """The numbers behind a draw."""
    raw = {name: policy.base[name] + policy.offset[name][draw.sub_policy] for name in ("gate", "centre", "width")}
    weight = policy.log_weight()[draw.sub_policy].exp()
    # Not by one_hot, which reads the largest index.
    every = torch.arange(len(policy.operations), device=weight.device)
    chosen = (draw.choice[..., None] == every).to(weight.dtype)
    logit = raw["gate"] + draw.logistic
    gate = straight_through((logit > 0).to(logit.dtype), torch.sigmoid(logit / policy.temperature))
    bounds = ranges(policy.operations, weight.device)
    ends = bounds.ends(raw["centre"], raw["width"])
    # Albumentations draws the sides of a hole apart.
    magnitude, across = bounds.draw(*ends, draw.uniform), bounds.draw(*ends, draw.noise[..., :1])
    return Drawn(straight_through(chosen, weight) * gate, weight, gate, magnitude, across, ends[0])


def fusible(policy: RelaxedPolicy) -> bool:
    """Whether all geometry comes before all tone before texture and occlusion, as the fused form needs it.

    A stage may choose from several of these, for it does one of them to an image: a plan of one stage always can.
    """
    stages = [[_ORDER[o.group] for _, o in entries] for entries in policy.stage_operations]
    return all(max(orders) <= min(after) for orders, after in pairwise(stages))


def compose_matrix(
    policy: RelaxedPolicy, drawn: Drawn, draw: Draw | None = None, extent: Sequence[int] | None = None
) -> Tensor | None:
    """All geometry of each image in one matrix (B, 3, 3) about the origin; None without geometric stages.

    `draw` and `extent`, the (H, W) of what is wanted of the images, place what is not enlarged about its middle.
    """
    total = None
    for stage, entries in enumerate(policy.stage_operations):
        movers = {k: operation for k, operation in entries if operation.matrix is not None}
        if movers:
            magnitudes, lows = (_these(p[:, stage], tuple(movers)).unbind(1) for p in (drawn.magnitude, drawn.low))
            noise = drawn.low.new_empty(0) if draw is None else draw.noise[:, stage]
            made = torch.stack(
                [
                    operation.move(magnitude, low, noise, None if draw is None else extent)
                    for operation, magnitude, low in zip(movers.values(), magnitudes, lows, strict=True)
                ],
                1,
            )
            still = identity_matrix(made)
            moved = still + _mixed(drawn, stage, tuple(movers), made - still)
            total = moved if total is None else moved @ total
    return total


def compose_curve(
    policy: RelaxedPolicy, drawn: Drawn, draw: Draw, image: Tensor, known: Tensor | None = None
) -> Tensor | None:
    """All tone of each image in one curve (B, C, 256) for `image` (B, C, H, W), whose `tone.bins` may be `known`; None
    without tone stages."""
    if not _tonal(policy):
        return None
    histogram, curve = tone.histogram(image, known), tone.identity_curve(image)
    for stage, entries in enumerate(policy.stage_operations):
        tonal = {k: operation for k, operation in entries if operation.curve is not None}
        if tonal:
            magnitudes = _these(drawn.magnitude[:, stage], tuple(tonal)).unbind(1)
            noise = draw.noise[:, stage]
            bent = [
                operation.bend(curve, histogram, magnitude, None, noise[:, : operation.noise])
                for operation, magnitude in zip(tonal.values(), magnitudes, strict=True)
            ]
            curve = curve + _mixed(drawn, stage, tuple(tonal), torch.stack(bent, 1) - curve[:, None])
    # Sums of multiples of 1/255 in float32: put back on the grid.
    return tone.quantise(curve, "round")


def _tonal(policy: RelaxedPolicy) -> bool:
    return any(o.curve is not None for entries in policy.stage_operations for _, o in entries)


def _mixed(drawn: Drawn, stage: int, places: tuple[int, ...], changes: Tensor) -> Tensor:
    """The sum (B, X, Y) of the changes (B, N, X, Y) that the operations at `places` would make, each times whether it
    is on: one product of all of them, as small tensors cost by their number."""
    on = _these(drawn.on[:, stage], places)
    return torch.bmm(on[:, None, :], changes.flatten(2))[:, 0].unflatten(1, changes.shape[2:])


def _these(values: Tensor, places: tuple[int, ...]) -> Tensor:
    """The columns (B, N) of (B, K) at these places; in one piece where they follow each other."""
    if places == tuple(range(places[0], places[-1] + 1)):
        return values[:, places[0] : places[-1] + 1]
    return values.index_select(1, _index(places, values.device))


@lru_cache(maxsize=256)
def _index(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, device=device)


def apply(
    policy: RelaxedPolicy,
    image: Tensor,
    mask: Tensor,
    generator: torch.Generator,
    *,
    fill: float,
    size: int | None = None,
    application: Application = "fused",
    draw: Draw | None = None,
    shift: Tensor | None = None,
    labels: Tensor | None = None,
    mask_gradient: bool = True,
) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Args:
        policy: what to apply.
        image: (B, C, H, W) float in [0, 1], multiples of 1/255, C 1 or 3.
        mask: (B, M, H, W) float, 0 or 1.
        generator: all randomness, on the images' device.
        fill: in [0, 1], what a warp or a hole uncovers.
        size: side of the square in the middle that is wanted (the rest is context for warps); all when None.
        application: see the module's docstring; the value has the same distribution either way.
        draw: instead of a fresh one.
        shift: (B, 3, 3), composed in front of the policy's geometry, so that it costs no resampling of its own.
        labels: (B, 1, H, W) instance ids, for operations that paste.
        mask_gradient: whether masks send a gradient to the geometry; the fused form is cheaper without.

    Returns:
        Images (B, C, size, size) and masks (B, M, size, size).

    Raises:
        ValueError: "fused" with a plan that puts a warp behind a tone operation, or tone behind texture.
    """
    draw = policy.draw(len(image), generator) if draw is None else draw
    drawn = resolve(policy, draw)
    if application == "soft":
        if shift is not None:
            image, mask = warp(image, mask, shift, fill)
        for stage in range(policy.stages):
            image, mask = _soft(policy, stage, drawn, draw, image, mask, generator, fill, labels, size)
        return (centre(image, size), centre(mask, size)) if size else (image, mask)
    if not fusible(policy):
        raise ValueError(
            "the fused application needs a plan with all geometry before all tone before texture and occlusion; "
            "reorder the plan, or set application to 'soft'"
        )
    matrix = compose_matrix(policy, drawn, draw, (size, size) if size else image.shape[2:])
    if shift is not None:
        matrix = shift if matrix is None else matrix @ shift
    if matrix is not None:
        labels = None if labels is None else warp_labels(labels, matrix, size)
        image, mask = warp(image, mask, matrix, fill, size, mask_gradient=mask_gradient)
    elif size:
        labels = None if labels is None else centre(labels, size)
        image, mask = centre(image, size), centre(mask, size)
    known = tone.bins(image) if _tonal(policy) else None
    curve = compose_curve(policy, drawn, draw, image, known)
    if curve is not None:
        image = tone.apply_curve(image, curve, known)
    for stage, entries in enumerate(policy.stage_operations):
        last = tuple((k, o) for k, o in entries if _ORDER[o.group] == 2)
        if last:
            numbers = (part[:, stage] for part in (drawn.on, drawn.magnitude, drawn.across))
            chosen = Stage(last, draw.choice[:, stage], *numbers)
            image, mask = apply_drawn(chosen, image, mask, generator, fill, labels)
    return image, mask


def _soft(
    policy: RelaxedPolicy,
    stage: int,
    drawn: Drawn,
    draw: Draw,
    image: Tensor,
    mask: Tensor,
    generator: torch.Generator,
    fill: float,
    labels: Tensor | None,
    size: int | None,
) -> tuple[Tensor, Tensor]:
    """One stage, all operations; the value of the drawn one, the gradient of the weighted sum."""
    blends = [torch.zeros_like(image), torch.zeros_like(mask)]
    values = [torch.zeros_like(image), torch.zeros_like(mask)]
    for k, operation in policy.stage_operations[stage]:
        changed = operation.apply(
            image, mask, drawn.magnitude[:, stage, k], drawn.gate[:, stage, k], generator, fill,
            labels=labels, noise=draw.noise[:, stage, : operation.noise], across=drawn.across[:, stage, k],
            low=drawn.low[:, stage, k], extent=(size, size) if size else None,
        )  # fmt: skip
        share = tone.columns(drawn.share[:, stage, k])
        chosen = tone.columns(draw.choice[:, stage] == k)
        for i, output in enumerate(changed):
            blends[i] = blends[i] + share * output
            values[i] = torch.where(chosen, output.detach(), values[i])
    soft, soft_mask = (straight_through(v, b) for v, b in zip(values, blends, strict=True))
    return soft, soft_mask
