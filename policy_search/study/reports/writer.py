"""A run folder's report as two files: an HTML page with its pictures inside, and the Markdown beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument
from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_text
from policy_search.study import report
from policy_search.study.reports.data import RunRecord, read_run, subjects
from policy_search.study.reports.figures import (
    front_figure,
    history_figure,
    operations_figure,
    preview_picture,
    second_round_figure,
)
from policy_search.study.reports.html import Learnt, Parts, Preview, report_page
from policy_search.study.reports.importance import importances
from policy_search.study.reports.operations import operations
from policy_search.study.reports.origin import Origin, origin, origin_lines
from policy_search.study.space import SEARCHED


def write_run_report(folder: Path, out: Path | None = None, root: Path | None = None) -> tuple[Path, Path, str]:
    """Write the report of the run in `folder`, finished or not.

    Args:
        folder: run folder; it is only read, apart from the report.
        out: page to write; `report.html` in the run folder when None. The Markdown goes beside it.
        root: LIVECell's folder, if it has moved since the run.

    Returns:
        The page, the Markdown file, and how far the run is, in words.

    Raises:
        InputError: see `read_run`; an `out` that does not end in .html or cannot be written.
    """
    page = folder / "report.html" if out is None else out
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {page}: expected a file name that ends in .html")
    record = read_run(folder)
    made = origin(record)
    # Pictures first: what cannot be drawn must not leave half a report.
    html = report_page(record, _parts(record, made, root))
    write_text(page, html)
    write_text(page.with_suffix(".md"), _markdown(record, made))
    return page, page.with_suffix(".md"), record.state


def _parts(record: RunRecord, made: Origin, root: Path | None) -> Parts:
    shown = subjects(record)
    return Parts(
        origin=made,
        importances=importances(record.trials, record.directions[0]) if len(record.directions) == 1 else (),
        settings=settings(record.trials),
        history=_history(record) if record.rows else None,
        second_round=second_round_figure(record.finalists, record.judged) if record.verdict else None,
        learnt=_learnt(shown),
        previews=[_preview(role, document, record, root) for role, document in shown],
    )


def _history(record: RunRecord) -> bytes:
    if len(record.metrics) > 1:
        return front_figure(record.rows, record.metrics, record.directions)
    return history_figure(record.rows, record.metrics[0], record.directions[0])


def _learnt(shown: Sequence[tuple[str, PolicyDocument]]) -> Learnt | None:
    """Of the winner when it is a searched policy, else of the best searched one, which stands last."""
    role, document = next(((r, d) for r, d in shown if d.provenance.family in SEARCHED), (None, None))
    if role is None or document is None:
        return None
    found = operations(document.transform)
    others = [f"{r} is {d.name}" for r, d in shown if d is not document]
    return Learnt("; ".join([role, *others]), document.name, found, operations_figure(found))


def _preview(role: str, document: PolicyDocument, record: RunRecord, root: Path | None) -> Preview:
    try:
        dataset = resolve(record.config.data, "train", root or record.config.root)
        return Preview(role, document.name, preview_picture(document, dataset, record.config.seed))
    except InputError as error:  # a report of long ago is worth having without its pictures
        return Preview(role, document.name, None, str(error))


def settings(trials: Sequence[FrozenTrial]) -> dict[int, str]:
    """What each trial chose in its family, as text by the number of its slot."""
    found = {}
    for trial in trials:
        if "weights" in trial.user_attrs:
            weights = sorted(trial.user_attrs["weights"].items(), key=lambda item: -item[1])
            text = ", ".join(f"{name} {weight:.2f}" for name, weight in weights if weight >= 0.005)
        else:
            text = ", ".join(
                f"{name.partition('.')[2].replace('_', '-')} {value:.3g}"
                for name, value in trial.params.items()
                if name != "family"
            )
        found[trial.user_attrs.get("slot", trial.number)] = text
    return found


def _markdown(record: RunRecord, made: Origin) -> str:
    return report.with_origin(_body(record), origin_lines(made))


def _body(record: RunRecord) -> str:
    """The report that the run wrote at its end, which also says why a finalist was left out; else a new one."""
    file = record.folder / "report.md"
    if record.verdict is not None and file.is_file():
        written = file.read_text(encoding="utf-8")
        if record.verdict.sentence in written:
            return written
    title = f"Policies for {record.config.data}"
    notes = [
        f"data {record.config.data}{' (synthetic)' if record.synthetic else ''}",
        f"seed {record.config.seed}; {len(record.rows)} trials",
        *[f"left out of the second round: {name}" for name in record.left_out if record.verdict is not None],
    ]
    if record.verdict is None:
        return report.unfinished(title, record.state, notes, record.metrics, record.rows, front=record.front)
    return report.markdown(
        title, notes, record.metrics, record.judged, record.rows, record.finalists, record.verdict, front=record.front
    )
