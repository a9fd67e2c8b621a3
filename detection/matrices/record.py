"""What a matrix of experiments has done, as JSON beside its folders: which row, source and seed is which run."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from detection.network import Frozen
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_text


class CellRecord(Frozen):
    """One finished fine-tune: a row of the experiment on a source, with a seed.

    Attributes:
        label: the row's. paper: its column in the paper's tables, or nothing.
        source, policy_hash, seed, config_hash: key of its results in the store (`detection.finetune.RunKey`).
        policy: what was asked for: a naive strategy, a file, or `search:NAME`.
        policy_file: the policy itself as Albumentations JSON; `folder`: the run's. Both relative to the record's folder
            where they are within it.
        seconds: wall time of the fine-tune with its test. place: host name of the machine that ran it.
        commands: what makes this result from the data, in order: base model, search, fine-tune.
    """

    label: str
    paper: str | None = None
    source: str
    seed: int
    policy_hash: str
    config_hash: str
    policy: str
    policy_file: str
    folder: str
    seconds: float
    place: str
    commands: tuple[str, ...]


class StageRecord(Frozen):
    """A base model or a search that fine-tunes begin from.

    Attributes:
        kind: `base` or `search`. name: for people. folder: as in `CellRecord`.
        seconds: wall time. place: host name.
    """

    kind: str
    name: str
    folder: str
    seconds: float
    place: str
    command: str


class MatrixRecord(Frozen):
    """One experiment at one scale.

    Attributes:
        experiment: name of its file without `.toml`. title: of its tables.
        reference: label of the row that gains are counted from.
        rows, seeds, sources: as planned, in the experiment's order; `rows` only those of this scale. `sources` are the
            names that the store knows.
        planned: number of cells; `cells` holds those that are finished, in the order rows, sources, seeds.
        stages: base models and searches that are finished.
        synthetic: whether any image comes from the demo culture. data: `demo`, or the name of the data's folder.
        versions: package → version. threads: of each run, as OMP_NUM_THREADS.
        started, finished: UTC, ISO 8601: of the first start and of the last cell.
        cpu_seconds: of all processes of the matrix that ran on its own machine, or None.
        command: that goes on with it.
    """

    experiment: str
    title: str
    scale: str
    reference: str
    rows: tuple[str, ...]
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    planned: int
    cells: tuple[CellRecord, ...]
    stages: tuple[StageRecord, ...] = ()
    synthetic: bool
    data: str
    versions: dict[str, str]
    threads: int
    started: str
    finished: str
    cpu_seconds: float | None = None
    command: str = ""


def save_matrix(record: MatrixRecord, path: Path) -> None:
    """Write a record in one step."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


def load_matrix(path: str | Path) -> MatrixRecord:
    """Read a record.

    Raises:
        InputError: missing, or not a record of a matrix.
    """
    file = Path(path)
    try:
        return MatrixRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"no record of a matrix at {file}: `detect matrix` writes it to runs/matrix/SCALE") from None
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{file} is not a record of a matrix: {where}: {first['msg']}; run `detect matrix` again"
        ) from None
