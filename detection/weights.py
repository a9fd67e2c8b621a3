"""Where a training begins: weights of ours or from elsewhere."""

from __future__ import annotations

from pathlib import Path

from detection import presets
from detection.checkpoint import Checkpoint, load_checkpoint
from detection.network import ModelConfig
from policy_search.cells.errors import InputError

BOTTOM_UP = "backbone.bottom_up."


def base_weights(path: Path, network: ModelConfig | None, allow: tuple[str, ...] = ()) -> Checkpoint:
    """The base model of a fine-tune.

    Args:
        network: that the file must hold; None takes the one that it names.
        allow: deviations that are accepted in a file from elsewhere.

    Raises:
        InputError: missing, damaged, or of another network.
    """
    checkpoint = load_checkpoint(path)
    if network is not None and checkpoint.config != network:
        raise InputError(f"{path} holds another network than the preset: pretrain one with --preset, or leave it out")
    return checkpoint


def backbone_weights(path: Path, network: ModelConfig, allow: tuple[str, ...] = ()) -> Checkpoint:
    """What a pretrain begins with: the bottom-up network alone, under the names of the whole model.

    Args:
        network: that will be trained; its bottom-up network must be the file's.
        allow: deviations that are accepted in a file from elsewhere.

    Raises:
        InputError: missing, damaged, or of another network.
    """
    checkpoint = load_checkpoint(path)
    state = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith(BOTTOM_UP)}
    if checkpoint.config != network:
        raise InputError(
            f"{path} holds another network than the preset: choose weights of that preset, or leave them out"
        )
    return checkpoint._replace(state=state)


def preset_name(checkpoint: Checkpoint, path: Path) -> str:
    """The preset whose recipe fits these weights: the one that they were made with, else one of the same network.

    Raises:
        InputError: no preset has that network.
    """
    said = checkpoint.made.get("config", {}).get("preset")
    names = [name for name, preset in presets.PRESETS.items() if preset.network == checkpoint.config]
    if said in names:
        return str(said)
    if not names:
        raise InputError(
            f"{path} holds a network of no preset ({', '.join(presets.PRESETS)}): it cannot be fine-tuned here"
        )
    return names[0]
