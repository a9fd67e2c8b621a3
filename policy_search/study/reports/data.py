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
from policy_search.study.finals import SUFFIX, FinalScores, fresh_seeds, gather, scores_of, tasks_for
from policy_search.study.opening import require_schema
from policy_search.study.report import TrialRow, directions_of, front_of, leaderboard
from policy_search.study.reports.storage import stored_storage, study_in
from policy_search.study.space import SEARCHED
from policy_search.study.storage import default_url
from policy_search.study.stored_policies import get_policy
from policy_search.study.verdict import Direction, Finalist, Verdict, judge, ranked
from policy_search.study.worker import slots_of

RESTORE = "its study can be taken up in another folder by policy-search resume --storage URL --study NAME --out FOLDER"
REMEDY = "STUDY is the folder that `policy-search run` wrote, its --out"


@dataclass(frozen=True)
class RunRecord:
    """What a run folder and its storage hold.

    Attributes:
        folder: the run folder.
        config: of the run, as it was last begun or continued.
        metrics, directions: of the first round.
        judged, judged_direction: metric of the second round, and which way is better.
        trials: finished slots of the first round, in order.
        rows: the leaderboard of the first round, best first.
        finalists: of the second round, best first, as far as every fresh seed is scored.
        left_out: chosen for the second round, but without a score on every fresh seed.
        scores: how many scores of the second round there are, and how many there should be.
        verdict: None unless the run is finished.
        best: best.json; of an earlier end of the run where `verdict` is None.
        searched: the best policy that an inner search has learnt; None when none has a score.
        leader: the policy that leads the first round; None when no trial has a score.
        second_seconds: wall seconds of the second round so far, summed over its scorings.
    """

    folder: Path
    config: RunConfig
    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]
    judged: str
    judged_direction: Direction
    trials: tuple[FrozenTrial, ...]
    rows: tuple[TrialRow, ...]
    finalists: tuple[Finalist, ...]
    left_out: tuple[str, ...]
    scores: tuple[int, int]
    verdict: Verdict | None
    best: PolicyDocument | None
    searched: PolicyDocument | None
    leader: PolicyDocument | None
    second_seconds: float

    @property
    def front(self) -> set[int]:
        """Slots on the Pareto front, where there are several metrics."""
        return front_of(self.rows, self.directions)

    @property
    def complete(self) -> int:
        """Trials that have a score."""
        return sum(row.state == "complete" for row in self.rows)

    @property
    def synthetic(self) -> bool:
        """Whether the data is the built-in demo culture."""
        return self.config.data.lower().startswith(DEMO)

    @property
    def state(self) -> str:
        """How far the run is, in one or two sentences."""
        done, wanted = self.complete, self.config.trials
        if self.verdict is not None:
            finalists = f"{len(self.finalists)} policies scored again in the second round"
            return f"Finished: {done} complete trials, and {finalists}."
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
    url = config.storage or default_url(folder)
    with stored_storage(url) as storage:
        study = study_in(storage, config.study_name)
        require_schema(study, url)
        if study.user_attrs.get("fingerprint", fingerprint) != fingerprint:
            raise InputError(f"the storage of {folder} holds a study of other data: it is not the storage of this run")
        name = config.study_name + SUFFIX
        second = study_in(storage, name) if name in optuna.get_all_study_names(storage) else None
        return _record(folder, config, study, second)


def _record(folder: Path, config: RunConfig, study: optuna.Study, second: optuna.Study | None) -> RunRecord:
    slots, rows, directions = slots_of(study), leaderboard(study), directions_of(study)
    judged_direction = directions_of(second)[0] if second is not None else directions[0]
    best = load_policy(folder / "best.json") if (folder / "best.json").is_file() else None
    found = scores_of(slots_of(second)) if second is not None else FinalScores({}, {})
    seeds = fresh_seeds(config.seed, config.final_seeds)
    finalists, failures = gather(rows, config.finalists, found, seeds)
    wanted = [(task.content_hash, task.seed) for task in tasks_for(rows, config.finalists, seeds)]
    verdict = None
    if sum(row.state == "complete" for row in rows) >= config.trials and any(f.baseline for f in finalists):
        judgement = judge(finalists, judged_direction)
        verdict = judgement if best is not None and _is_of(best, judgement) else None
    searched = _best_searched(rows, finalists)
    leader = next((row.number for row in rows if row.values), None)
    return RunRecord(
        folder=folder,
        config=config,
        metrics=tuple(study.metric_names or ["score"] * len(directions)),
        directions=directions,
        judged=((second.metric_names if second is not None else None) or study.metric_names or ["score"])[0],
        judged_direction=judged_direction,
        trials=tuple(slots.finished[slot] for slot in sorted(slots.finished)),
        rows=tuple(rows),
        finalists=tuple(ranked(finalists, judged_direction)),
        left_out=tuple(failures),
        scores=(sum(key in found.values for key in wanted), len(wanted)),
        verdict=verdict,
        best=best,
        searched=None if searched is None else get_policy(slots.finished[searched]),
        leader=None if leader is None else get_policy(slots.finished[leader]),
        second_seconds=found.seconds,
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
        raise InputError(f"{file} is damaged ({error}): {RESTORE}") from None
    if not isinstance(found, dict):
        raise InputError(f"{file} is damaged (it holds no object): {RESTORE}")
    if found.get("command") == "search":
        raise InputError(f"{folder} holds one search of `policy-search search`, which has no trials: {REMEDY}")
    fingerprint = found.pop("fingerprint", None)
    try:
        return RunConfig(**found), str(fingerprint)
    except (InputError, TypeError) as error:
        raise InputError(f"{file} is damaged or of another version of policy-search ({error}): {RESTORE}") from None


def _is_of(best: PolicyDocument, verdict: Verdict) -> bool:
    """Whether best.json was written at this end of the run, not at an earlier one."""
    scores = best.provenance.model_dump().get("final_scores")
    return best.content_hash == verdict.winner.content_hash and scores == list(verdict.winner.scores)


def _best_searched(rows: Sequence[TrialRow], finalists: Sequence[Finalist]) -> int | None:
    """The searched trial that did best in the second round, or in the first where none was in the second."""
    own = [row for row in rows if row.family in SEARCHED and row.score is not None]
    order = [f.content_hash for f in finalists if f.family in SEARCHED]
    again = [row for digest in order for row in own if row.content_hash == digest]
    return next((row.number for row in [*again, *own]), None)


def subjects(record: RunRecord) -> list[tuple[str, PolicyDocument]]:
    """What a report shows, each with its role: the winner, or who leads so far, and the best searched policy."""
    found: list[tuple[str, PolicyDocument]] = []
    if record.verdict is not None and record.best is not None:
        found.append(("the winner", record.best))
    elif record.leader is not None:
        found.append(("the leader of the first round so far", record.leader))
    if record.searched is not None:
        if found and found[0][1].content_hash == record.searched.content_hash:
            found[0] = (f"{found[0][0]} and the best searched policy", found[0][1])
        else:
            found.append(("the best searched policy", record.searched))
    return found
