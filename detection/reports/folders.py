"""What the folders of an experiment's runs say: settings, policy, data, kept detections."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from detection.config import FinetuneConfig
from detection.matrices.record import CellRecord
from policy_search.augment import PolicyDocument, load_policy
from policy_search.augment.baselines import BASELINES
from policy_search.cells import CellDataset, ImageRecord, resolve
from policy_search.cells.errors import InputError, PolicyError
from policy_search.cells.livecell import FileReader


def config_of(cell: CellRecord, base: Path) -> FinetuneConfig:
    """The settings that a run wrote into its folder.

    Args:
        base: folder of the experiment's record, from which its paths are relative.

    Raises:
        InputError: missing or of another program.
    """
    path = base / cell.folder / "config.json"
    try:
        return FinetuneConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise InputError(f"{path} is not of `detect finetune`: {error.errors()[0]['msg']}") from None


def policy_of(cell: CellRecord, base: Path) -> PolicyDocument:
    """The policy of a run; of a record that is kept apart from its runs, a naive strategy by its name.

    Raises:
        PolicyError: the file is missing or damaged, or the strategy is another one by now.
    """
    file = base / cell.policy_file
    if file.is_file() or cell.policy not in BASELINES:
        return load_policy(file)
    document = load_policy(cell.policy)
    if document.content_hash != cell.policy_hash:
        raise PolicyError(f"{cell.policy} is no longer what this run was made with, and {file} is gone")
    return document


def training_images(cell: CellRecord, base: Path, root: Path | None) -> CellDataset:
    """The images that a run trained on; where its folder is gone, those that its source names now.

    Args:
        root: LIVECell's folder, if it has moved since the run.

    Raises:
        InputError: the run's settings or the images cannot be read.
    """
    if not (base / cell.folder).is_dir():
        return resolve(cell.source, "train", root)
    config = config_of(cell, base)
    return resolve(config.data, "train", root or config.root)


def record_named(dataset: CellDataset, cell_type: str, file_name: str) -> ImageRecord:
    """The image of that type whose file is called so; in the demo culture the id stands for the file.

    Raises:
        InputError: there is none, so the data is not what the run was tested on.
    """
    for record in dataset.of_type(cell_type):
        path = dataset.reader.files.get(record.id) if isinstance(dataset.reader, FileReader) else None
        if file_name in (record.id, record.id.rpartition("/")[2], path.name if path else None):
            return record
    raise InputError(f"{dataset.name} has no {cell_type} image {file_name}: the run was tested on other data")


def licences(datasets: Iterable[CellDataset]) -> list[str]:
    """Names of the licences that the annotation files state, each once; none for synthetic images."""
    files = {
        coco.path: None
        for dataset in datasets
        if isinstance(dataset.reader, FileReader)
        for coco, _ in dataset.reader.sources.values()
    }
    found: dict[str, None] = {}
    for path in files:
        content = json.loads(path.read_bytes())
        for entry in content.get("licenses") or []:
            if isinstance(entry, dict) and entry.get("name"):
                found[str(entry["name"])] = None
    return list(found)
