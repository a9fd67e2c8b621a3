"""What a study holds, written as COCO files with PNG images: all that a fine-tune in another process gets to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from policy_search.cells.dataset import ImageRecord, Sample, coco_ground_truth
from policy_search.cells.files import replacing, write_json
from policy_search.study.data import StudyData
from policy_search.study.probe import Domain, ProbeSample


class Exported(NamedTuple):
    """Two datasets, as one types them for `--data`, and domain by the name that it has in the second."""

    source: str
    domains: str
    names: dict[str, str]


def export(data: StudyData, folder: Path, *, images: int) -> Exported:
    """Write training images and validation domains, unless they are there already.

    The files carry no split in their names: they are a training set and a set to be scored on, whatever the split of
    whoever reads them is called. Each domain is a cell type of its own in the file, with a name that no real type has.

    Args:
        data: what is written; nothing else is read.
        folder: made if missing; of this data alone.
        images: at most so many of every domain, evenly spaced.
    """
    few = [Domain(domain.name, evenly(domain.samples, images)) for domain in data.domains]
    names = {f"domain {number:03d}": domain.name for number, domain in enumerate(few)}
    source = _write(folder / "source", {"source": data.train})
    scored = {name: domain.samples for name, domain in zip(names, few, strict=True)}
    return Exported(source, _write(folder / "domains", scored), names)


def evenly(samples: Sequence[ProbeSample], count: int) -> tuple[ProbeSample, ...]:
    """At most `count` of them, evenly spaced."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return tuple(samples[i] for i in places)


def _write(folder: Path, samples: Mapping[str, Sequence[ProbeSample]]) -> str:
    """`folder`.json and its images in `folder`; the file comes last, so that where it is, everything is."""
    file = folder.with_suffix(".json")
    named = f"{file}:{folder}"
    if file.is_file():
        return named
    records: list[Sample] = []
    types: list[str] = []
    for cell_type, group in samples.items():
        for sample in group:
            height, width = sample.image.shape
            name = f"{len(records):04d}.png"
            with replacing(folder / name) as scratch:
                Image.fromarray(sample.image).save(scratch)
            record = ImageRecord(name, cell_type, "train", name, height, width)
            records.append(Sample(record, sample.image, sample.instances))
            types.append(cell_type)
    content = coco_ground_truth(records)
    for entry, cell_type in zip(content["images"], types, strict=True):
        entry["cell_type"] = cell_type
    write_json(file, content)
    return named
