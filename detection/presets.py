"""The networks that have a name."""

from __future__ import annotations

from typing import NamedTuple

from detection.network import ModelConfig
from detection.recipe import Recipe
from policy_search.cells.errors import InputError


class Preset(NamedTuple):
    """A network and how it is trained; every value of the recipes can be overridden on the command line.

    Attributes:
        iterations: of a pretraining, unless its length is given.
    """

    network: ModelConfig
    pretraining: Recipe
    finetuning: Recipe
    iterations: int = 30_000  # LIVECell's


_LIVECELL_HEADS = {
    "channels": 3,
    "norm": "SyncBN",
    "fpn": 256,
    "fpn_norm": "SyncBN",
    # Twice p2, for the smallest cells: the head is shared, so that only the anchors differ.
    "anchor_levels": ("p2", "p2", "p3", "p4", "p5", "p6"),
    "anchor_sizes": ((4,), (9,), (17,), (31,), (64,), (127,)),
    "anchor_ratios": (0.25, 0.5, 1.0, 2.0, 4.0),
    "anchor_offset": 0.0,
    "rpn_batch": 256,
    "candidates_train": 12000,
    "candidates_test": 6000,
    "proposals_train": 3000,
    "proposals_test": 3000,
    "rois": 512,
    "roi_levels": ("p2", "p3", "p4", "p5"),
    "roi_scale": 224,
    "roi_level": 4,
    "roi_samples": 0,
    "box_convs": 4,
    "box_conv_dim": 256,
    "box_norm": "SyncBN",
    "box_fc_dim": 1024,
    "mask_convs": 8,
    "mask_dim": 256,
    "mask_norm": "SyncBN",
    "detections": 3000,
    # The published configuration names no size for tests, so detectron2's default holds.
    "test_shortest": 800,
    "test_longest": 1333,
}

# LIVECell's anchor-based models (one configuration for all of them, model/anchor_based/a172_config.yaml).
_LIVECELL = ModelConfig(
    block="resnest", stem=128, stages=(256, 512, 1024, 2048), blocks=(3, 24, 36, 3), radix=2,
    deformable=(False, True, True, True), deform_groups=2, **_LIVECELL_HEADS,
)  # fmt: skip

_R50 = ModelConfig(
    block="bottleneck", stem=64, stages=(256, 512, 1024, 2048), blocks=(3, 4, 6, 3), **_LIVECELL_HEADS
)  # fmt: skip


# The design's "small ResNeSt": a forward and a backward pass cost what those of tiny's bottom-up network do (45 against
# 48 ms for two 256x256 images on one thread), with a quarter of its weights. It is no preset: which of the two learns
# more in the same time has to be measured first.
TINY_RESNEST = ModelConfig(
    block="resnest", stem=32, stages=(32, 64, 128, 256), blocks=(2, 2, 2, 2), expansion=2, radix=2
)  # fmt: skip


def _published(batch: int) -> Recipe:
    """LIVECell's schedule: SGD at 0.02 for batches of 16, in proportion for others; whole images at six sizes."""
    return Recipe(
        batch=batch, crop=0, sizes=(440, 480, 520, 560, 580, 620), optimizer="sgd", lr=0.02 * batch / 16, momentum=0.9,
        warmup=1000, schedule="steps", weight_decay=1e-4, clip=0, precision="auto",
    )  # fmt: skip


PRESETS: dict[str, Preset] = {
    # For processors: a half-width ResNet-18, one-convolution heads, few regions in training, every cell at test time.
    "tiny": Preset(
        ModelConfig(), Recipe(precision="auto"), Recipe(lr=5e-4, warmup=20, precision="auto"), iterations=3000
    ),
    # ResNet-50 under LIVECell's heads.
    "r50": Preset(_R50, _published(16), _published(2)),
    # ResNeSt-200 with deformable convolutions: takes the published weights.
    "livecell": Preset(_LIVECELL, _published(16), _published(2)),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
