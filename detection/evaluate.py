"""A model on unaugmented test images: full frames in, scores per cell type and per well out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.modeling import GeneralizedRCNN

from detection.config import EvaluateConfig
from detection.find import find_cells
from detection.matches import ImageMatches
from detection.model import build_model
from detection.statistics.comparison import Comparison, file_stem
from detection.store import Scores
from detection.weights import weights_to_test
from policy_search.cells import CellDataset, ImageRecord, resolve
from policy_search.cells.errors import InputError
from policy_search.cells.files import require_writable_folder, write_json
from policy_search.cells.livecell import FileReader


class Evaluation(NamedTuple):
    """Scores of one model.

    Attributes:
        types: per cell type, over all its labelled images.
        wells: per cell type, per well. A type with one well has one entry there, equal to its own.
        synthetic: whether the images come from the demo culture.
        images: per cell type, every image with its detections marked right or wrong.
    """

    types: dict[str, Scores]
    wells: dict[str, dict[str, Scores]]
    synthetic: bool
    images: dict[str, list[ImageMatches]]

    def document(self) -> dict[str, Any]:
        """What scores.json holds. `single_well` lists the types whose score says nothing about other wells."""
        return {
            "scores": {name: found.model_dump() for name, found in self.types.items()},
            "wells": {
                name: {well: found.model_dump() for well, found in wells.items()} for name, wells in self.wells.items()
            },
            "single_well": [name for name, wells in self.wells.items() if len(wells) == 1],
            "synthetic": self.synthetic,
        }


def evaluate(
    model: GeneralizedRCNN,
    dataset: CellDataset,
    report: Callable[[str], None] = lambda _: None,
    *,
    out: Path | None = None,
) -> dict[str, Scores]:
    """Scores per cell type of `dataset`, in its order; unlabelled images are left out.

    Args:
        report: called with a sentence per cell type.
        out: folder for scores.json (also per well), detections/TYPE.json and ground_truth/TYPE.json.
    """
    found = evaluate_wells(model, dataset, report, out=out)
    if out:
        write_json(out / "scores.json", found.document())
    return found.types


def evaluate_wells(
    model: GeneralizedRCNN, dataset: CellDataset, report: Callable[[str], None], *, out: Path | None = None
) -> Evaluation:
    """Like `evaluate`, also per well; writes detections and ground truth under `out`, but no scores.json."""
    found = Evaluation({}, {}, dataset.synthetic, {})
    stems: list[str] = []
    for cell_type in dataset.cell_types:
        records = [record for record in dataset.of_type(cell_type) if record.annotated]
        if not records:
            continue
        wells = len({record.well for record in records})
        images = f"{len(records)} image{'s' if len(records) > 1 else ''}"
        report(f"testing on {cell_type}, {images} of {wells} well{'s' if wells > 1 else ''}")
        comparison = Comparison()
        for record in records:
            sample = dataset.sample(record)
            comparison.add(sample, find_cells(model, sample.image), _file_name(dataset, record))
        found.types[cell_type] = comparison.scores()
        by_well = comparison.scores_by_well() if wells > 1 else {records[0].well: found.types[cell_type]}
        found.wells[cell_type] = by_well
        found.images[cell_type] = comparison.matches()
        if out:
            stems.append(file_stem(cell_type, stems))
            comparison.write(out, stems[-1])
    return found


def run_evaluation(config: EvaluateConfig, report: Callable[[str], None] = lambda _: None) -> Evaluation:
    """The command `detect evaluate`: scores per cell type and well.

    Raises:
        InputError: weights, data or folder cannot be used.
    """
    checkpoint = weights_to_test(config.weights, config.preset, config.allow)
    if checkpoint.report:
        report(checkpoint.report)
    dataset = resolve(config.data, config.split, config.root)
    if not any(record.annotated for record in dataset):
        raise InputError(f"{config.data} has no labelled {config.split} image to test on")
    out = require_writable_folder(config.out) if config.out else None
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.state)
    found = evaluate_wells(model.to(config.device), dataset, report, out=out)
    if out:
        write_json(out / "config.json", config.model_dump(mode="json"))
        facts = {"weights": checkpoint.content_hash, "fingerprint": dataset.fingerprint(), "made": checkpoint.made}
        write_json(out / "scores.json", {**found.document(), **facts})
    return found


def _file_name(dataset: CellDataset, record: ImageRecord) -> str:
    """Of the image's file; the demo culture has none, there it is the record's id."""
    path = dataset.reader.files[record.id] if isinstance(dataset.reader, FileReader) else None
    return path.name if path is not None else record.id
