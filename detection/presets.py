"""The networks that have a name."""

from __future__ import annotations

from typing import NamedTuple

from detection.network import ModelConfig
from detection.recipe import Recipe
from policy_search.cells.errors import InputError


class Preset(NamedTuple):
    """A network and how it is trained; every value of the recipes can be overridden on the command line."""

    network: ModelConfig
    pretraining: Recipe
    finetuning: Recipe


PRESETS: dict[str, Preset] = {
    # For processors: a half-width ResNet-18, one-convolution heads, few regions in training, every cell at test time.
    "tiny": Preset(ModelConfig(), Recipe(), Recipe(lr=5e-4, warmup=20)),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
