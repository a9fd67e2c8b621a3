"""How a network is trained: crops, batches, optimiser and learning rate, as one frozen value."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detection.network import Frozen


class Recipe(Frozen):
    """What `pretrain` and `finetune` share, with the values of the tiny preset.

    Attributes:
        batch: images or crops an iteration.
        crop: side of the random crops in pixels; 0 trains on whole images.
        sizes: shortest edges in pixels; each visit of an image draws one and resizes the image to it, keeping its
            aspect, before it is cropped. Empty: images as they are.
        optimizer: AdamW, or SGD with `momentum` (the published models).
        lr: the highest learning rate, after `warmup` iterations of linear rise (at most a tenth of all).
        schedule: `cosine` falls to 1 % of `lr`; `steps` divides it by ten at 7/12 and 8/12 of the way (LIVECell's
            17,500 and 20,000 of 30,000 iterations).
        clip: norm to which longer gradients are shortened; 0 leaves them.
        precision: of the arithmetic in the network; weights stay float32. `auto` is what the device is good at: bf16
            where it has instructions for it, else fp16 on a GPU and fp32 on a processor.
    """

    batch: int = Field(2, ge=1)
    crop: int = Field(256, ge=0)
    sizes: tuple[int, ...] = ()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    warmup: int = Field(50, ge=0)
    schedule: Literal["cosine", "steps"] = "cosine"
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(5.0, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
