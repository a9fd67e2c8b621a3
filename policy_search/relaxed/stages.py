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
        choice: (B,) int64, the drawn index.
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
    # Taken apart and put together once: the gradient of indexing writes zeros for every other image.
    images, masks, touched = list(image.unbind()), list(mask.unbind()), False
    for k, operation in stage.operations:
        rows = [row for row, choice in enumerate(chosen) if choice == k]
        if not rows:
            continue
        # Pasting takes its donors from the whole batch.
        whole = operation.paste is not None
        taken = list(range(len(chosen))) if whole else rows
        # Texture hands the mask through, so it is given the whole one, uncopied.
        covers = operation.pixels is None
        own = image if whole else _gather(image, images, rows)
        own_mask = mask if whole or not covers else _gather(mask, masks, rows)
        on, magnitude, across = (part[taken, k] for part in (stage.on, stage.magnitude, stage.across))
        changed, changed_mask = operation.apply(
            own, own_mask, magnitude, None, generator, fill, labels=labels if whole else None, across=across
        )
        outputs = tone.switch(own, changed, on).unbind()
        covered = tone.switch(own_mask, changed_mask, on).unbind() if covers else ()
        for place, row in enumerate(taken):
            if row in rows:
                images[row] = outputs[place]
                if covers:
                    masks[row], touched = covered[place], True
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
