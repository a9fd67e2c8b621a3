"""One stage of texture and occlusion, applied to a batch: each image is changed by the operation it drew, by no other.

Two ways with values of the same distribution and the same gradients (the drawn operation's magnitude, and how far the
image is from what that operation would make of it):

* gathered, where numbers may be read (devices.py): each operation is computed for the images that drew it.
* dense, elsewhere: each operation is computed for the whole batch, and the drawn one is selected. Nothing waits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from policy_search.relaxed import devices, tone
from policy_search.relaxed.operations import Operation


class Stage(NamedTuple):
    """What a stage draws from, and what was drawn.

    Attributes:
        operations: by their index among the K.
        choice: (B,) int64, the drawn index; an image that drew none of `operations` stays as it is.
        on, magnitude, across: (B, K), see `application.Drawn`.
    """

    operations: tuple[tuple[int, Operation], ...]
    choice: Tensor
    on: Tensor
    magnitude: Tensor
    across: Tensor


def apply_drawn(
    stage: Stage, image: Tensor, mask: Tensor, generator: torch.Generator, fill: float, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and masks (B, M, H, W) after the stage.

    Args:
        stage: see Stage.
        image, mask: in [0, 1] on the 8-bit grid; 0 or 1.
        generator: all randomness, on their device.
        fill: in [0, 1], of holes.
        labels: (B, 1, H, W) instance ids, for operations that paste.
    """
    way = _gathered if devices.may_read(image.device) else _dense
    return way(stage, image, mask, generator, fill, labels)


def _gathered(
    stage: Stage, image: Tensor, mask: Tensor, generator: torch.Generator, fill: float, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    chosen = stage.choice.tolist()
    rows_of = {k: [row for row, choice in enumerate(chosen) if choice == k] for k, _ in stage.operations}
    order = torch.tensor([row for rows in rows_of.values() for row in rows], dtype=torch.long, device=image.device)
    # Of the drawn operations, in the order in which they are computed.
    numbers = torch.stack([stage.on, stage.magnitude, stage.across])
    numbers = numbers.gather(2, stage.choice.expand(3, -1)[:, :, None])[:, :, 0].index_select(1, order)
    numbers_of = numbers.split([len(rows) for rows in rows_of.values()], 1)
    # Taken apart and put together once: the gradient of indexing writes zeros for every other image.
    images, masks, touched = list(image.unbind()), list(mask.unbind()), False
    for (k, operation), own_numbers in zip(stage.operations, numbers_of, strict=True):
        rows = rows_of[k]
        if not rows:
            continue
        on, magnitude, across = own_numbers.unbind()
        # Texture hands the mask through, so it is given the whole one, uncopied.
        covers = operation.pixels is None
        own, own_mask = _gather(image, images, rows), _gather(mask, masks, rows) if covers else mask
        if operation.paste is None:
            changed, changed_mask = operation.apply(own, own_mask, magnitude, None, generator, fill, across=across)
        else:
            # It takes its donors from the whole batch, as it was before this stage.
            every = stage.magnitude[:, k]
            pasted = operation.apply(image, mask, every, None, generator, fill, labels=labels)
            changed, changed_mask = (_gather(part, list(part.unbind()), rows) for part in pasted)
        for row, output in zip(rows, tone.switch(own, changed, on).unbind(), strict=True):
            images[row] = output
        if covers:
            touched = True
            for row, output in zip(rows, tone.switch(own_mask, changed_mask, on).unbind(), strict=True):
                masks[row] = output
    return torch.stack(images), torch.stack(masks) if touched else mask


def _gather(whole: Tensor, parts: list[Tensor], rows: list[int]) -> Tensor:
    """The images (R, C, H, W) of these rows."""
    return whole if len(rows) == len(parts) else torch.stack([parts[row] for row in rows])


def _dense(
    stage: Stage, image: Tensor, mask: Tensor, generator: torch.Generator, fill: float, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    after, after_mask = image, mask
    for k, operation in stage.operations:
        changed, changed_mask = operation.apply(
            image, mask, stage.magnitude[:, k], None, generator, fill, labels=labels, across=stage.across[:, k]
        )
        drawn = tone.columns(stage.choice == k)
        after = torch.where(drawn, changed, after)
        if operation.pixels is None:
            after_mask = torch.where(drawn, changed_mask, after_mask)
    on = stage.on.gather(1, stage.choice[:, None])[:, 0]
    return tone.switch(image, after, on), mask if after_mask is mask else tone.switch(mask, after_mask, on)
