"""What an experiment is made of at one scale: base models, searches and fine-tunes, each with command and folder.

    WORK/SCALE/base/SOURCE-SEED-DIGEST     detect pretrain
    WORK/SCALE/search/NAME-SOURCE-SEED-DIGEST    policy-search search
    WORK/SCALE/cell/DIGEST                 detect finetune

A digest is of all that the result depends on, so that experiments share what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from detection.config import digest
from detection.matrices.file import SEARCH, Experiment, Row, data_name, fill_in, nearest
from detection.matrices.options import option_words
from detection.tasks import Task
from policy_search.cells.errors import InputError

RESULTS = "results.sqlite"
# Files of a finished fine-tune. Its weights may be a gigabyte: they stay where they are made.
OUTPUTS = (RESULTS, "results.json", "config.json", "policy.json")
# Options that change nothing in a result.
_ELSEWHERE = ("workers", "save_every", "feature_cache", "feature_cache_gb", "keep_detections", "checkpoint_every")


class Facts(Protocol):
    """What a plan must know of the world."""

    def data(self, name: str) -> str:
        """Digest of the training images and labels behind a `--data` name."""

    def weights(self, path: Path) -> str:
        """Digest of a file."""

    def policy(self, policy: str) -> str:
        """Digest of a policy file or a naive strategy."""

    def is_strategy(self, policy: str) -> bool:
        """Whether it names a naive strategy."""


class Place(NamedTuple):
    """Where a matrix runs: folder of the scale, LIVECell's root or None, and what the user gave in place of the
    scale's `weights`, `eval` and `gpus`, or None."""

    folder: Path
    root: Path | None = None
    weights: Path | None = None
    eval: str | None = None
    gpus: float | None = None


class Step(NamedTuple):
    """A base model or a search.

    Attributes:
        kind: `base` or `search`. result: the file in its folder that fine-tunes take.
        digest: of all that it depends on.
    """

    kind: str
    task: Task
    result: Path
    digest: str


class Cell(NamedTuple):
    """One fine-tune.

    Attributes:
        source: as a `--data` name.
        policy: a naive strategy, a file, or `search:NAME`. file: what `--policy` is given.
        needs: the steps that come first.
    """

    row: Row
    source: str
    seed: int
    policy: str
    file: str
    needs: tuple[Step, ...]
    task: Task


class Plan(NamedTuple):
    """Cells in the order rows, sources, seeds; steps in the order in which cells first need them."""

    experiment: str
    scale: str
    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]


def make_plan(experiment: Experiment, path: Path, scale: str, place: Place, facts: Facts) -> Plan:
    """Plan an experiment at a scale.

    Args:
        path: of the experiment file: its name is the experiment's, and files that it names are relative to it.

    Raises:
        InputError: no such scale, no base model, or a policy, data set or file that cannot be used.
    """
    chosen = experiment.scales.get(scale)
    if chosen is None:
        raise InputError(f"{path} has no scale {scale!r}; {nearest(scale, list(experiment.scales))}")
    planner = _Planner(experiment, path, scale, place, facts)
    cells = [
        planner.cell(row, source, seed)
        for row in experiment.rows_at(scale)
        for source in chosen.sources
        for seed in experiment.seeds
    ]
    steps = {step.task.out: step for cell in cells for step in cell.needs}
    return Plan(path.stem, scale, tuple(steps.values()), tuple(cells))


class _Planner:
    def __init__(self, experiment: Experiment, path: Path, name: str, place: Place, facts: Facts) -> None:
        self.experiment, self.path, self.place, self.facts = experiment, path, place, facts
        self.name, self.scale = name, experiment.scales[name]
        self.gpus = self.scale.gpus if place.gpus is None else place.gpus
        self.root = ("--root", str(place.root)) if place.root is not None else ()

    def cell(self, row: Row, source: str, seed: int) -> Cell:
        data = data_name(source, self.scale.types)
        needs: list[Step] = []
        weights, weights_digest = self._base(data, seed, needs)
        policy = self.scale.policies.get(row.label, row.policy or "")
        file, policy_digest = self._policy(policy, source, data, seed, needs)
        options = {**self.experiment.finetune, **self.scale.finetune, **row.finetune}
        tested = str(fill_in(self.place.eval or self.scale.eval, source, self.scale.types))
        key = digest({
            **self._identity("finetune", options, data, seed), "weights": weights_digest, "policy": policy_digest,
            "eval": tested,
        })  # fmt: skip
        inputs = (weights,) if self.facts.is_strategy(file) else (weights, Path(file))
        words = (
            "detect", "finetune", "--policy", file if len(inputs) == 1 else "{1}", "--data", data, "--weights", "{0}",
            "--eval", tested, *self.root, "--seed", str(seed), *option_words(options),
            "--results", f"{{out}}/{RESULTS}", "--out", "{out}",
        )  # fmt: skip
        out = self.place.folder / "cell" / key
        task = Task(f"{row.label}, {data}, seed {seed}", words, inputs, out, OUTPUTS, self.gpus)
        return Cell(row, data, seed, policy, file, tuple(needs), task)

    def _base(self, data: str, seed: int, needs: list[Step]) -> tuple[Path, str]:
        """The file of weights to begin with, and its digest."""
        given = self.place.weights
        if given is None and self.scale.weights is not None:
            given = self.path.parent / Path(self.scale.weights).expanduser()
        if given is not None:
            return given, self.facts.weights(given)
        if self.scale.pretrain is None:
            raise InputError(f"{self.path}: scale {self.name} trains no base model: give one with --weights")
        options = self.scale.pretrain
        key = digest(self._identity("pretrain", options, data, seed))
        words = (
            "detect", "pretrain", "--data", data, *self.root, "--seed", str(seed), *option_words(options),
            "--out", "{out}",
        )  # fmt: skip
        # A pretraining that validates keeps its best weights; `model.pth`, its last, is written when it is done.
        name = "best.pth" if "validate_on" in options else "model.pth"
        task = Task(
            f"base model, {data}, seed {seed}", words, (), self.place.folder / "base" / f"{_safe(data)}-{seed}-{key}",
            tuple(dict.fromkeys((name, "model.pth"))), self.gpus,
        )  # fmt: skip
        step = Step("base", task, task.out / name, key)
        needs.append(step)
        return step.result, key

    def _policy(self, policy: str, source: str, data: str, seed: int, needs: list[Step]) -> tuple[str, str]:
        """What `--policy` is given, and a digest of the policy."""
        if policy.startswith(SEARCH):
            step = self._search(policy.removeprefix(SEARCH), source, data, seed)
            needs.append(step)
            return str(step.result), step.digest
        if self.facts.is_strategy(policy):
            return policy, self.facts.policy(policy)
        file = str(self.path.parent / policy)
        return file, self.facts.policy(file)

    def _search(self, name: str, source: str, data: str, seed: int) -> Step:
        given = {**self.experiment.searches[name], **self.scale.searches.get(name, {})}
        options = {key: fill_in(value, source, self.scale.types) for key, value in given.items()}
        key = digest(self._identity("search", options, data, seed))
        words = (
            "policy-search", "search", "--data", data, *self.root, "--seed", str(seed), *option_words(options),
            "--out", "{out}",
        )  # fmt: skip
        out = self.place.folder / "search" / f"{_safe(name)}-{_safe(data)}-{seed}-{key}"
        gpus = self.gpus if options.get("device", "cpu") != "cpu" else 0.0
        task = Task(f"search {name}, {data}, seed {seed}", words, (), out, ("policy.json",), gpus)
        return Step("search", task, out / "policy.json", key)

    def _identity(self, command: str, options: Mapping[str, object], data: str, seed: int) -> dict[str, object]:
        decisive = {name: value for name, value in options.items() if name not in _ELSEWHERE and value is not False}
        return {"command": command, "options": decisive, "data": self.facts.data(data), "seed": seed}


def _safe(name: str) -> str:
    """A name for a folder: short, without separators."""
    text = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return text if len(text) <= 40 else text[:40]
