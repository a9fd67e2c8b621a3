"""`detect` with a preset small enough for tests: `python -m tests.detection.micro_detect pretrain …`."""

from __future__ import annotations

import sys

import torch

from detection import cli, cli_matrix, presets
from detection.presets import Preset
from detection.recipe import Recipe
from tests.detection.culture import MICRO


def main() -> None:
    presets.PRESETS.clear()
    presets.PRESETS["tiny"] = Preset(MICRO, Recipe(crop=64), Recipe(crop=64))
    cli_matrix.PROGRAMS["detect"] = (sys.executable, "-m", "tests.detection.micro_detect")
    torch.set_num_threads(1)
    sys.argv[0] = "detect"
    cli.main()


if __name__ == "__main__":
    main()
