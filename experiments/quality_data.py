"""The cells of experiments/quality.py: one labelled source, unseen types to score on, their images without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset
from policy_search.cells.errors import DataError, InputError
from policy_search.study.data import DOMAIN_IMAGES, StudyData, windows
from policy_search.study.probe import Domain, ProbeSample
from policy_search.study.splits import grey, read_split, spread_over_wells

SOURCE = "A172"
USIIGACI = "Usiigaci"
LABELLED = ("train", "val")
UNLABELLED = ("train", "unlabeled")
MOST = 18  # images of a type and split: all of the demo culture's

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Culture:
    """One half of the experiment.

    Attributes:
        name: demo or livecell.
        study: the source's training images and, as domains, the labelled images of every unseen type.
        targets: unseen type → its images, of which no label is read.
        left_out: unseen types without a labelled train or val image.
    """

    name: str
    study: StudyData
    targets: Mapping[str, tuple[Image, ...]]
    left_out: tuple[str, ...] = ()


def load_culture(name: str, root: Path | None, usiigaci: Path | None) -> Culture:
    """Read one half of the experiment; never a test split.

    Args:
        name: demo, or livecell (with `usiigaci` as one more unseen domain where its folder is given).
        root: LIVECell's folder.
        usiigaci: a folder in LIVECell's layout.

    Raises:
        InputError: livecell without its folder.
        DataError: see `cells.resolve`; or no unseen type has a labelled image.
    """
    if name == "livecell" and root is None:
        raise InputError("--data livecell needs LIVECell's folder: give --root or set LIVECELL_ROOT")
    everything = "demo/all" if name == "demo" else "all"
    read: dict[str, CellDataset] = {
        split: read_split(everything, split, root, missing_ok=split != "train") for split in (*LABELLED, "unlabeled")
    }
    source = _most(read["train"].of_type(SOURCE))
    train = _samples(source)
    if not train:
        raise DataError(f"{everything} has no labelled train image of {SOURCE}: the experiment starts from one")
    types = list(dict.fromkeys(t for dataset in read.values() for t in dataset.cell_types if t != SOURCE))
    used, domains, targets, left_out = [source], [], {}, []
    for unseen in types:
        labelled = [_most(read[split].of_type(unseen)) for split in LABELLED]
        samples = [sample for dataset in labelled for sample in _samples(dataset)]
        if not samples:
            left_out.append(unseen)
            continue
        domains.append(Domain(unseen, tuple(samples)))
        images = [_most(read[split].of_type(unseen), unlabelled=True) for split in UNLABELLED]
        targets[unseen] = _images(*images)
        used += [*labelled, *images]
    if usiigaci is not None and name == "livecell":
        other = {split: read_split("all", split, usiigaci, missing_ok=split != "train") for split in LABELLED}
        # Its images are four times LIVECell's: central windows of a few.
        labelled = [_most(dataset, DOMAIN_IMAGES // len(LABELLED)) for dataset in other.values()]
        domains.append(Domain(USIIGACI, tuple(windows([s for dataset in labelled for s in _samples(dataset)]))))
        targets[USIIGACI] = _images(_most(other["train"], unlabelled=True))
        used += labelled
    if not domains:
        raise DataError(f"{everything}: no type beside {SOURCE} has a labelled train or val image to score on")
    study = StudyData(
        f"demo/{SOURCE}" if name == "demo" else SOURCE,
        source.synthetic,
        hashlib.sha256("|".join(dataset.fingerprint() for dataset in used).encode()).hexdigest()[:16],
        tuple(train),
        tuple(domains),
        f"labelled train and val images of {', '.join(d.name for d in domains)}",
    )
    return Culture(name, study, targets, tuple(left_out))


def _most(dataset: CellDataset, limit: int = MOST, *, unlabelled: bool = False) -> CellDataset:
    kept = {r.id for r in spread_over_wells(dataset.records, limit, unlabelled=unlabelled)}
    # Cells that annotators left out would count as false where they are found.
    return dataset.where(lambda r: r.id in kept and (unlabelled or r.complete))


def _samples(dataset: CellDataset) -> list[ProbeSample]:
    return [ProbeSample(r.id, grey(dataset.image(r)), dataset.instances(r)) for r in dataset]


def _images(*datasets: CellDataset) -> tuple[Image, ...]:
    return tuple(grey(dataset.image(record)) for dataset in datasets for record in dataset)
