"""Reading a run folder for a report, finished or not: nothing in it is written, nor in its storage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells.errors import InputError
from policy_search.cells.sources import DEMO
from policy_search.config import RunConfig
from policy_search.study.finals import choose
from policy_search.study.report import TrialRow, leaderboard
from policy_search.study.report_storage import stored_study
from policy_search.study.runner import probe_seed
from policy_search.study.storage import default_url
from policy_search.study.verdict import Direction, Finalist, Verdict, judge, ranked

REMEDY = "STUDY is the folder that `policy-search run` wrote, its --out"


@dataclass(frozen=True)
class RunRecord:
    """What a run folder and its storage hold.

    Attributes:
        folder: the run folder.
        config: of the run, as it was last begun or continued.
        metric, direction: of the study.
        trials: all of the study, in order, those that were interrupted included.
        rows: the leaderboard of the first round, best first.
        finalists: of the second round, best first, as far as every fresh seed is scored.
        left_out: chosen for the second round, but without a score on every fresh seed.
        scores: how many scores of the second round there are, and how many there should be.
        verdict: None unless the run is finished.
        best: best.json; of an earlier end of the run where `verdict` is None.
        searched: the best searched policy; None when no searched trial has a score.
    """

    folder: Path
    config: RunConfig
    metric: str
    direction: Direction
    trials: tuple[FrozenTrial, ...]
    rows: tuple[TrialRow, ...]
    finalists: tuple[Finalist, ...]
    left_out: tuple[str, ...]
    scores: tuple[int, int]
    verdict: Verdict | None
    best: PolicyDocument | None
    searched: PolicyDocument | None

    @property
    def synthetic(self) -> bool:
        """Whether the data is the built-in demo culture."""
        return self.config.data.lower().startswith(DEMO)

    @property
    def state(self) -> str:
        """How far the run is, in one or two sentences."""
        done, wanted = len(self.rows), self.config.trials
        if self.verdict is not None:
            return f"Finished: {done} trials, and {len(self.finalists)} policies scored again in the second round."
        if done < wanted:
            text = f"Not finished: {done} of {wanted} trials are done, and the second round has not been run."
        elif self.scores[0] < self.scores[1]:
            text = (
                f"Not finished: all {done} trials are done, but the second round has {self.scores[0]} of "
                f"{self.scores[1]} scores."
            )
        else:
            text = f"Not finished: all {done} trials and the second round are done, but best.json is not of this end."
        return text + (" The best.json in the folder is of an earlier end of this run." if self.best else "")


def read_run(folder: Path) -> RunRecord:
    """Read the run in a folder.

    Raises:
        InputError: no such folder, not a run folder, a damaged configuration, a storage that is missing, damaged or
            another run's, a damaged policy.
    """
    config, fingerprint = read_config(folder)
    with stored_study(config.storage or default_url(folder), f"{config.data} seed {config.seed}") as study:
        if study.user_attrs.get("fingerprint", fingerprint) != fingerprint:
            raise InputError(f"the storage of {folder} holds a study of other data: it is not the storage of this run")
        return _record(folder, config, study)


def _record(folder: Path, config: RunConfig, study: optuna.Study) -> RunRecord:
    rows = leaderboard(study)
    direction: Direction = "maximize" if study.direction.name == "MAXIMIZE" else "minimize"
    best = load_policy(folder / "best.json") if (folder / "best.json").is_file() else None
    finalists, left_out, scores = _second_round(study, rows, config, direction)
    verdict = None
    if len(rows) >= config.trials and any(f.baseline for f in finalists):
        found = judge(finalists, direction)
        verdict = found if best is not None and _is_of(best, found) else None
    searched = _best_searched(rows, finalists)
    return RunRecord(
        folder=folder,
        config=config,
        metric=(study.metric_names or ["score"])[0],
        direction=direction,
        trials=tuple(study.get_trials(deepcopy=False)),
        rows=tuple(rows),
        finalists=finalists,
        left_out=left_out,
        scores=scores,
        verdict=verdict,
        best=best,
        searched=None if searched is None else load_policy(folder / "trials" / f"{searched:03d}" / "policy.json"),
    )


def read_config(folder: Path) -> tuple[RunConfig, str]:
    """The configuration in a run folder and the fingerprint of its data; see `read_run`."""
    file = folder / "config.json"
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: {REMEDY}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} is not a run folder, it has no config.json: {REMEDY}") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}): the run cannot be reported") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} is damaged (it holds no object): the run cannot be reported")
    if found.get("command") == "search":
        raise InputError(f"{folder} holds one search of `policy-search search`, which has no trials: {REMEDY}")
    fingerprint = found.pop("fingerprint", None)
    try:
        return RunConfig(**found), str(fingerprint)
    except (InputError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}): the run cannot be reported") from None


def _second_round(
    study: optuna.Study, rows: Sequence[TrialRow], config: RunConfig, direction: Direction
) -> tuple[tuple[Finalist, ...], tuple[str, ...], tuple[int, int]]:
    """Finalists that are scored on every fresh seed, the names of the others, and (scores there, scores wanted)."""
    seeds = [probe_seed(config.seed, 1 + i) for i in range(config.final_seeds)]
    complete, left_out, count = [], [], 0
    chosen = choose(rows, config.finalists)
    for row in chosen:
        found = [study.user_attrs.get(f"final {row.content_hash} {seed}") for seed in seeds]
        scores = tuple(float(value) for value in found if value is not None)
        count += len(scores)
        if len(scores) == len(seeds):
            complete.append(Finalist(row.name, row.family, row.content_hash or "", row.baseline, scores))
        else:
            left_out.append(row.name)
    return tuple(ranked(complete, direction)), tuple(left_out), (count, len(chosen) * len(seeds))


def _is_of(best: PolicyDocument, verdict: Verdict) -> bool:
    """Whether best.json was written at this end of the run, not at an earlier one."""
    scores = best.provenance.model_dump().get("final_scores")
    return best.content_hash == verdict.winner.content_hash and scores == list(verdict.winner.scores)


def _best_searched(rows: Sequence[TrialRow], finalists: Sequence[Finalist]) -> int | None:
    """The searched trial that did best in the second round, or in the first where none was in the second."""
    own = [row for row in rows if row.family == "searched" and row.score is not None]
    order = [f.content_hash for f in finalists if f.family == "searched"]
    again = [row for digest in order for row in own if row.content_hash == digest]
    return next((row.number for row in [*again, *own]), None)


def subjects(record: RunRecord) -> list[tuple[str, PolicyDocument]]:
    """What a report shows, each with its role: the winner, or who leads so far, and the best searched policy."""
    found: list[tuple[str, PolicyDocument]] = []
    leader = next((row for row in record.rows if row.score is not None), None)
    if record.verdict is not None and record.best is not None:
        found.append(("the winner", record.best))
    elif leader is not None:
        path = record.folder / "trials" / f"{leader.number:03d}" / "policy.json"
        found.append(("the leader of the first round so far", load_policy(path)))
    if record.searched is not None:
        if found and found[0][1].content_hash == record.searched.content_hash:
            found[0] = (f"{found[0][0]} and the best searched policy", found[0][1])
        else:
            found.append(("the best searched policy", record.searched))
    return found
