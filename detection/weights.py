"""Where a training begins: weights of ours or from elsewhere."""

from __future__ import annotations

from pathlib import Path

from detection import presets
from detection.checkpoint import Checkpoint, backbone_state, hash_state, load_weights
from detection.network import ModelConfig
from policy_search.cells.errors import InputError

BOTTOM_UP = "backbone.bottom_up."


def base_weights(
    path: Path, network: ModelConfig | None, allow: tuple[str, ...] = (), *, own: bool = False
) -> Checkpoint:
    """The base model of a fine-tune.

    Args:
        network: that the file must hold; None takes the one that it names.
        own: a file of ours may hold another.
        allow: deviations that are accepted in a file from elsewhere.

    Raises:
        InputError: missing, damaged, or of another network.
    """
    return load_weights(path, network, allow, own=own)


def backbone_weights(path: Path, network: ModelConfig, allow: tuple[str, ...] = ()) -> Checkpoint:
    """What a pretrain begins with: the bottom-up network alone, under the names of the whole model.

    Args:
        network: that will be trained; its bottom-up network must be the file's.
        allow: deviations that are accepted in a file from elsewhere.

    Raises:
        InputError: missing, damaged, or of another network.
    """
    state, report = backbone_state(path, network, allow)
    named = {BOTTOM_UP + name: tensor for name, tensor in state.items()}
    return Checkpoint(network, named, {"command": "backbone", "file": path.name}, hash_state(named), report)


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


def weights_to_test(path: Path, preset: str | None, allow: tuple[str, ...] = ()) -> Checkpoint:
    """A model to test or to use: a file of ours, or one from elsewhere that fits the named preset.

    Raises:
        InputError: unknown preset; or the file is missing, damaged, or of another network.
    """
    return load_weights(path, presets.preset(preset).network if preset else None, allow)
