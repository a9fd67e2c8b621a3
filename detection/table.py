"""Results as a table: cell types down, policies across, AP50 in percent, mean ± standard deviation over seeds."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from detection.store import Result
from policy_search.augment import BASELINES
from policy_search.cells import CELL_TYPES
from policy_search.cells.errors import InputError

UNSEEN = "mean of unseen"


class Cell(NamedTuple):
    """AP50 over seeds in percent: mean, sample standard deviation (None with one seed), number of seeds."""

    mean: float
    sd: float | None
    seeds: int


class Table(NamedTuple):
    """Results that may be compared: one source, one configuration.

    Attributes:
        cells: (cell type, policy) → values; a pair that was not run is missing.
        seen: the source types among `types`.
        notes: policy → what a reader must know.
    """

    source: str
    config_hash: str
    synthetic: bool
    types: tuple[str, ...]
    policies: tuple[str, ...]
    seen: frozenset[str]
    cells: dict[tuple[str, str], Cell]
    notes: dict[str, str]

    def unseen_mean(self, policy: str) -> Cell | None:
        """Mean over seeds of the mean over unseen types; None unless each of them has a value for the same seeds."""
        return self.cells.get((UNSEEN, policy))


def tables(results: Sequence[Result]) -> list[Table]:
    """One table per source and configuration, in order of the source's name."""
    groups = sorted({(r.source, r.config_hash) for r in results})
    return [_table(source, config, [r for r in results if (r.source, r.config_hash) == (source, config)])
            for source, config in groups]  # fmt: skip


def _table(source: str, config_hash: str, results: Sequence[Result]) -> Table:
    labels = _labels(results)
    order = [t.name for t in CELL_TYPES]
    types = sorted({r.cell_type for r in results}, key=lambda t: (order.index(t) if t in order else len(order), t))
    known = list(BASELINES)
    policies = sorted(set(labels.values()), key=lambda p: (known.index(p) if p in known else len(known), p))
    seen = frozenset(r.cell_type for r in results if r.seen)
    cells: dict[tuple[str, str], Cell] = {}
    for policy in policies:
        own = [r for r in results if labels[r.policy, r.policy_hash] == policy]
        by_seed: dict[int, dict[str, float]] = {}
        for r in own:
            if r.ap50 is not None:
                by_seed.setdefault(r.seed, {})[r.cell_type] = 100 * r.ap50
        for cell_type in types:
            values = [row[cell_type] for row in by_seed.values() if cell_type in row]
            if values:
                cells[cell_type, policy] = _cell(values)
        unseen = [t for t in types if t not in seen]
        # A mean over fewer types is another quantity: only seeds tested on all of them count.
        whole = [fmean(row[t] for t in unseen) for row in by_seed.values() if unseen and all(t in row for t in unseen)]
        if whole:
            cells[UNSEEN, policy] = _cell(whole)
    notes = {labels[r.policy, r.policy_hash]: r.note for r in results if r.note}
    synthetic = any(r.synthetic for r in results)
    return Table(source, config_hash, synthetic, tuple(types), tuple(policies), seen, cells, notes)


def _labels(results: Sequence[Result]) -> dict[tuple[str, str], str]:
    """(name, hash) → column; two policies of one name keep apart by their hashes."""
    pairs = {(r.policy, r.policy_hash) for r in results}
    names = [name for name, _ in pairs]
    return {(n, h): n if names.count(n) == 1 else f"{n} [{h[:6]}]" for n, h in pairs}


def _cell(values: Sequence[float]) -> Cell:
    return Cell(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def render(results: Sequence[Result], form: str) -> str:
    """The tables as text: `md`, `csv` (one line per value) or `tex`.

    Raises:
        InputError: unknown format, or nothing to show.
    """
    if form not in _FORMS:
        raise InputError(f"unknown format {form!r}: expected one of {', '.join(_FORMS)}")
    if not results:
        raise InputError("there are no results yet. Make some with `detect finetune`.")
    return _FORMS[form](tables(results))


def _rows(table: Table) -> list[str]:
    return [*table.types, *([UNSEEN] if any(key[0] == UNSEEN for key in table.cells) else [])]


def _caption(table: Table) -> str:
    counts = sorted({cell.seeds for cell in table.cells.values()})
    seeds = f"{counts[0]} seed{'s' if counts[0] > 1 else ''}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]} seeds"
    kind = "SYNTHETIC data. " if table.synthetic else ""
    source = f"trained on {table.source} (configuration {table.config_hash[:8]})"
    return f"{kind}Mask AP50 in %, mean ± sd over {seeds}, {source}."


def _text(cell: Cell | None, plus_minus: str = " ± ") -> str:
    if cell is None:
        return ""
    return f"{cell.mean:.1f}" + (f"{plus_minus}{cell.sd:.1f}" if cell.sd is not None else "")


def _label(table: Table, row: str) -> str:
    return f"{row} (seen)" if row in table.seen else row


def _markdown(found: Sequence[Table]) -> str:
    parts = []
    for table in found:
        lines = [_caption(table), ""]
        header = ["cell type", *table.policies]
        body = [
            [_label(table, row), *(_text(table.cells.get((row, p))) for p in table.policies)] for row in _rows(table)
        ]
        widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
        rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
        for line in [header, rule, *body]:
            padded = [line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))]
            lines.append("| " + " | ".join(padded) + " |")
        lines += ["", *(f"{policy}: {note}" for policy, note in table.notes.items())] if table.notes else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


_CSV_HEADER = "source,synthetic,config,cell_type,seen,policy,seeds,ap50_mean,ap50_sd,note"


def _csv(found: Sequence[Table]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_HEADER.split(","))
    for table in found:
        first = [table.source, int(table.synthetic), table.config_hash]
        for row, policy in itertools.product(_rows(table), table.policies):
            cell = table.cells.get((row, policy))
            if cell is not None:
                sd = "" if cell.sd is None else f"{cell.sd:.4f}"
                values = [row, int(row in table.seen), policy, cell.seeds, f"{cell.mean:.4f}", sd]
                writer.writerow([*first, *values, table.notes.get(policy, "")])
    return out.getvalue()


_TEX_SPECIAL = str.maketrans({c: f"\\{c}" for c in "_%&#$"})


def _tex(found: Sequence[Table]) -> str:
    parts = []
    for table in found:
        caption = _caption(table).replace("±", "$\\pm$").translate({ord("%"): "\\%", ord("_"): "\\_"})
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{caption}}}"]
        lines += [f"\\begin{{tabular}}{{l{'r' * len(table.policies)}}}", "\\hline"]
        lines.append(" & ".join(["cell type", *(p.translate(_TEX_SPECIAL) for p in table.policies)]) + " \\\\ \\hline")
        for row in _rows(table):
            values = [_text(table.cells.get((row, p)), " $\\pm$ ") for p in table.policies]
            lines.append(" & ".join([_label(table, row).translate(_TEX_SPECIAL), *values]) + " \\\\")
        lines += ["\\hline", "\\end{tabular}"]
        lines += [f"\\par {p}: {n}".translate(_TEX_SPECIAL) for p, n in table.notes.items()]
        parts.append("\n".join([*lines, "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


_FORMS: dict[str, Callable[[Sequence[Table]], str]] = {"md": _markdown, "csv": _csv, "tex": _tex}
