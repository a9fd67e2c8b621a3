"""One search from start to end in its folder: steps, checkpoints, policy.json. Resumable at every step.

config.json       the configuration and the data's fingerprint
sizes.json        target mode: how large the cells of each target were found to be, before the first step
checkpoint.pt     the state of the search, replaced every few steps
history.jsonl     the numbers of every step
tensorboard/      the same as scalars
preview.png       what the policy does to images of the source
policy.json       the policy; written last, so a folder that has it is finished
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from policy_search.augment import PolicyDocument, load_policy
from policy_search.augment.preview import save_preview
from policy_search.cells.errors import InputError
from policy_search.cells.files import clear_scratch
from policy_search.config import SearchConfig
from policy_search.interrupts import stop_wanted
from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.checkpoint import load_checkpoint, save_checkpoint
from policy_search.relaxed.search import Search, SearchResult, SearchSettings, StepReport
from policy_search.relaxed.sized import without_size
from policy_search.relaxed.target import LEAST_STEPS, TargetSearch, TargetSettings
from policy_search.relaxed.threads import one_thread
from policy_search.relaxed.watch import Watch
from policy_search.search_data import SearchData, load_search_data, source_sampler, target_sampler
from policy_search.search_document import describe, document_of
from policy_search.search_history import History
from policy_search.search_sizes import Stopped, sizes_of
from policy_search.study.folder import RunFolder
from policy_search.tensorboard import Board


@dataclass(frozen=True)
class SearchEvent:
    """What is told on the way: a line to print, or a step that was made.

    Attributes:
        done, warmup, steps: steps made, the warm-up included; how many of them are warm-up, and how many follow.
        message: a line to print.
        report: of the step just made.
    """

    done: int
    warmup: int
    steps: int
    message: str = ""
    report: StepReport | None = None


Listener = Callable[[SearchEvent], None]


@dataclass(frozen=True)
class SearchOutcome:
    """Where a search stands.

    Attributes:
        folder: the run folder.
        document: the policy; None while the search is not finished.
        made: steps that this call made, the warm-up included.
        left: steps that are still to be made.
    """

    folder: Path
    document: PolicyDocument | None
    made: int
    left: int

    @property
    def policy_path(self) -> Path:
        """policy.json."""
        return self.folder / "policy.json"


def run_search(config: SearchConfig, *, listener: Listener | None = None) -> SearchOutcome:
    """Run or continue the search of `config` in its folder; a finished one is only read.

    SIGINT and SIGTERM end the run after the step it is in, with a checkpoint. A run that was killed goes on from its
    last checkpoint; on a CPU it ends with the same policy and history, bit for bit, as one that was never stopped.

    Args:
        config: see `SearchConfig`.
        listener: called at every step; what it raises stops the run, which can then be continued.

    Raises:
        InputError: options, data or folder that cannot be used; a full disk.
        SearchDivergedError: a loss is not finite, or the critic has collapsed; names the step and the losses.
    """
    tell = listener or (lambda event: None)
    with ExitStack() as held:
        held.enter_context(one_thread())
        # What the user gave is looked at before the run folder is made: bad input leaves nothing behind.
        settings = search_settings(config)
        data = load_search_data(config)
        run = RunFolder(config.out)
        held.enter_context(run.owned())
        run.claim(config, data.fingerprint)
        policy, checkpoint = run.path / "policy.json", run.path / "checkpoint.pt"
        if policy.is_file():
            return SearchOutcome(run.path, load_policy(policy), 0, 0)
        for name in ("config.json", "sizes.json", "checkpoint.pt", "history.jsonl", "preview.png", "policy.json"):
            clear_scratch(run.path / name)

        def note(text: str) -> None:
            tell(SearchEvent(0, settings.warmup, settings.steps, text))

        left_out = [name for name in config.operations if name not in settings.operation_names]
        if left_out:
            note(f"left out, as the size of the cells is recognised first: {', '.join(left_out)}")
        try:
            sizes = sizes_of(
                run.path / "sizes.json", data, steps=config.recognise_steps, seed=config.seed, tell=note
            )  # fmt: skip
        except Stopped:
            return SearchOutcome(run.path, None, 0, settings.warmup + settings.steps)
        search = begin(data, settings, config.seed, config.device, sizes=tuple(sizes.values()))
        if checkpoint.is_file():
            load_checkpoint(checkpoint, search, seed=config.seed, fingerprint=data.fingerprint)
        try:
            reports, made = _advance(search, config, data, run.path, tell)
        except OSError as error:
            raise InputError(
                f"cannot write into {run.path} at step {search.done}: {error.strerror or error}. "
                "Make room there and repeat the command to go on."
            ) from error
        if search.done < settings.steps:
            return SearchOutcome(run.path, None, made, settings.steps - search.done)
        result = SearchResult(search.average, reports, search.statistics, settings, config.seed)
        document = document_of(result, config, data, sizes)
        save_preview(document, data.source, run.path / "preview.png", seed=config.seed)
        document.save(policy)
        return SearchOutcome(run.path, document, made, 0)


def search_settings(config: SearchConfig) -> SearchSettings | TargetSettings:
    """The engine's settings for a configuration: with a target those of target mode, else of source mode.

    Raises:
        InputError: an operation that is not in the catalogue, too few steps, or a device that is not there.
    """
    known = [operation.name for operation in CATALOGUE]
    unknown = [name for name in config.operations if name not in known]
    if unknown:
        raise InputError(f"--operations: unknown operation {unknown[0]!r}, expected names among {', '.join(known)}")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda: PyTorch finds no CUDA device here; use --device cpu, or install a driver and a CUDA build"
        )
    names = config.operations
    if config.target and config.recognise_steps:
        names = without_size(names)
        if not names:
            raise InputError(
                f"--operations {','.join(config.operations)}: all of them change the size of the cells, which is "
                "recognised before the search. Name others too, or give --recognise-steps 0."
            )
    given = {
        "operation_names": names,
        "sub_policies": config.sub_policies,
        "batch": config.batch,
        "crop": config.crop,
        **({} if config.steps is None else {"steps": config.steps}),
    }
    if not config.target:
        return SearchSettings.model_validate(given)
    if config.steps is not None and config.steps < LEAST_STEPS:
        raise InputError(f"--steps {config.steps}: target mode learns in stretches and needs at least {LEAST_STEPS}")
    return TargetSettings.model_validate(given)


def begin(
    data: SearchData,
    settings: SearchSettings | TargetSettings,
    seed: int,
    device: str = "cpu",
    *,
    sizes: Sequence[float] = (),
) -> Search | TargetSearch:
    """A fresh search in the mode that the settings are for; for target mode the source is of these sizes."""
    if isinstance(settings, SearchSettings):
        return Search(source_sampler(data), None, settings, seed, device=device)
    target = target_sampler(data)
    if target is None:
        raise ValueError("target mode without target images")
    return TargetSearch(source_sampler(data, sizes), target, settings, seed, device=device)


def _advance(
    search: Search | TargetSearch, config: SearchConfig, data: SearchData, folder: Path, tell: Listener
) -> tuple[list[StepReport], int]:
    """Step until the end or until the user wants to stop; a checkpoint stands at the end of either.

    Returns:
        All reports of the search, and how many of them were made here.
    """
    s = search.settings
    first, begun = -s.warmup, search.done

    def event(**contents: Any) -> SearchEvent:
        return SearchEvent(search.done - first, s.warmup, s.steps, **contents)

    # A mismatch is a sum over many statistics, each some deviations off at first.
    watch = Watch() if isinstance(search.settings, SearchSettings) else Watch(limit=1e6)
    with ExitStack() as held:
        history = held.enter_context(History(folder / "history.jsonl", first=first, done=begun))
        if begun == s.steps:
            return history.reports, 0
        for report in history.reports:
            watch(report)
        where = f", going on after {begun - first} of {s.steps - first} steps" if begun > first else ""
        tell(event(message=f"{describe(data)}{where}"))
        board = held.enter_context(
            Board(
                folder / "tensorboard",
                first=first,
                reports=history.reports,
                warn=lambda text: tell(event(message=text)),
            )
        )
        saved = begun

        def save() -> None:
            # The checkpoint comes last: what it counts on is on the disk before it.
            nonlocal saved
            board.flush()
            history.sync()
            save_checkpoint(folder / "checkpoint.pt", search, seed=config.seed, fingerprint=data.fingerprint)
            saved = search.done

        stopped = held.enter_context(stop_wanted())
        while search.done < s.steps and not stopped():
            report = search.step()
            history.append(report)
            board.add(report)
            watch(report)
            if (search.done - first) % config.checkpoint_every == 0:
                save()
            tell(event(report=report))
        if saved < search.done:  # asked once, here: a wish to stop may come at any line of the loop
            save()
        return history.reports, search.done - begun
