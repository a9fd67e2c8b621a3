"""The peer, AutoAlbument 0.4.0, run from its own Python environment: data in its form, a search, what it left behind.

Its folder holds `config/` (a search.yaml, a dataset of PNG pairs, a timer) and `.venv-autoalbument`, the Python 3.8
environment that it needs. Nothing of the peer is imported here.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from policy_search.relaxed.crops import CropSampler, Pair

ENVIRONMENT = ".venv-autoalbument"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class PeerRun(NamedTuple):
    """What a search of the peer left behind.

    Attributes:
        policy: its emitted policy, written at the end of an epoch.
        epochs: finished ones.
        cpu_s: CPU seconds of the whole process, its start and a last unfinished epoch included.
        peak_mb: peak resident memory of the process, MiB.
        timing: CPU seconds of every step and more, from the timer; None when the budget ended the search.
        stopped: the budget ended the search.
    """

    policy: Path
    epochs: int
    cpu_s: float
    peak_mb: float
    timing: dict[str, Any] | None
    stopped: bool


class Peer:
    """The peer's folder, checked.

    Raises:
        InputError: the folder lacks the configuration or the environment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.command = self.folder / ENVIRONMENT / "bin" / "autoalbument-search"
        for part in (self.folder / "config" / "search.yaml", self.command):
            if not part.is_file():
                raise InputError(
                    f"--peer: expected the folder of AutoAlbument's recipe, with config/search.yaml and "
                    f"{ENVIRONMENT}; {part} is missing. Run setup_env.sh in that folder first."
                )

    def versions(self) -> dict[str, str]:
        """Of the packages that its speed depends on."""
        code = (
            "import json, platform, torch, albumentations, autoalbument, pytorch_lightning as p; print(json.dumps({"
            "'python': platform.python_version(), 'autoalbument': autoalbument.__version__, 'torch': "
            "torch.__version__, 'pytorch-lightning': p.__version__, 'albumentations': albumentations.__version__}))"
        )
        python = str(self.command.parent / "python")
        done = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def search(
        self,
        data: Path,
        out: Path,
        *,
        batch: int,
        epochs: int,
        seed: int,
        cpu_seconds: int | None = None,
        overrides: Sequence[str] = (),
        modules: Sequence[Path] = (),
    ) -> PeerRun:
        """`autoalbument-search` on `data` (see `write_pairs`) in one thread.

        Args:
            out: new folder for its configuration, log and results.
            batch: half of it real, half augmented.
            epochs: at most so many.
            cpu_seconds: the kernel ends the process after so many; the policy is then that of the last whole epoch.
            overrides: further settings, as on its command line.
            modules: Python files that these settings name, put beside its configuration.

        Raises:
            InputError: `out` exists.
            RuntimeError: the search failed, or the budget was too small for one epoch; with its last words.
        """
        if out.exists():
            raise InputError(f"{out} is there already: name a new folder, or remove it first")
        out = out.resolve()
        shutil.copytree(self.folder / "config", out / "config")
        for module in modules:
            shutil.copy(module, out / "config")
        timing = out / "timing.json"
        command = [
            str(self.command), "--config-dir", str(out / "config"), f"hydra.run.dir={out / 'run'}", f"seed={seed}",
            f"trainer.max_epochs={epochs}", f"data.dataloader.batch_size={batch}", *overrides,
        ]  # fmt: skip
        variables = {
            # AA_NO_OPS: the timer leaves single operations alone; its clock in each would be paid by the step.
            **os.environ, **ONE_THREAD, "AA_DATA": str(data.resolve()), "AA_TIMING": str(timing), "AA_NO_OPS": "1"
        }  # fmt: skip
        variables.pop("PYTHONPATH", None)  # ours is for another Python

        def limit() -> None:
            if cpu_seconds is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        log = out / "log.txt"
        with log.open("w") as words:
            process = subprocess.Popen(
                command, env=variables, cwd=out, stdout=words, stderr=subprocess.STDOUT, preexec_fn=limit
            )
            # wait4 and not getrusage(RUSAGE_CHILDREN): that one's memory is the largest of all children so far.
            _, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        stopped = cpu_seconds is not None and code == -signal.SIGXCPU
        finished = len(list((out / "run" / "policy").glob("epoch_*.json")))
        if (code != 0 and not stopped) or not finished:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise RuntimeError(f"autoalbument-search ended with code {code} after {finished} epochs:\n{last}")
        return PeerRun(
            # A run that is ended may have been writing `latest.json`; files of earlier epochs are whole.
            _last_whole(out / "run" / "policy"),
            finished,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            json.loads(timing.read_text()) if timing.is_file() else None,
            stopped,
        )


def _last_whole(folder: Path) -> Path:
    """The newest policy file that is complete JSON."""
    for path in sorted(folder.glob("epoch_*.json"), key=lambda p: int(p.stem.split("_")[1]), reverse=True):
        try:
            json.loads(path.read_text())
        except json.JSONDecodeError:
            continue
        return path
    raise RuntimeError(f"no whole policy file in {folder}: give a larger budget")


def training_pairs(data: str, root: Path | None) -> list[Pair]:
    """Images and foreground masks of a data set's training split, as both searches take them."""
    dataset = resolve(data, "train", root)
    samples = [dataset.sample(record) for record in dataset if record.annotated]
    return [(sample.image, sample.instances.foreground()) for sample in samples]


def write_pairs(pairs: Sequence[Pair], folder: Path, *, count: int, size: int, seed: int) -> list[str]:
    """`count` random crops of side `size` as the PNG pairs that the peer's dataset reads.

    Its operations crash on one channel, so a grey image is stored three times.

    Returns:
        the settings of its command line that normalise with the mean and deviation of these images.
    """
    sampler = CropSampler(pairs)
    images, masks = sampler.sample(count, size, torch.Generator().manual_seed(seed))
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        pixels = (image * 255).round().to(torch.uint8).expand(3, size, size).permute(1, 2, 0).numpy()
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        cv2.imwrite(str(folder / "images" / f"{number:04d}.png"), bgr)
        cv2.imwrite(str(folder / "masks" / f"{number:04d}.png"), mask[0].to(torch.uint8).numpy() * 255)
    levels = sampler.statistics()
    mean, deviation = f"{levels.mean:.4f}", f"{levels.deviation:.4f}"
    return [
        f"data.normalization.{name}=[{value},{value},{value}]" for name, value in (("mean", mean), ("std", deviation))
    ]
