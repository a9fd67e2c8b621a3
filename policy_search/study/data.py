"""What a study may look at: training images of the source and validation domains. Test splits are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policy_search.cells import CellDataset, ImageRecord
from policy_search.cells.errors import DataError, InputError
from policy_search.study.probe import Domain, ProbeSample
from policy_search.study.shifts import HELD_BACK
from policy_search.study.splits import grey, read_split, spread_over_wells
from policy_search.study.targets import pixel_digest, read_targets

TRAINING_SHARE = 2 / 3  # of the width of every image, where the source has to be cut in two
DOMAIN_PIXELS = 400_000  # of a validation domain before it is shifted: about one LIVECell image
DOMAIN_IMAGES = 6
MIN_AREA = 10  # pixels: less of a cell at a cut is not a cell


@dataclass(frozen=True)
class StudyData:
    """The data of a study, in memory.

    Attributes:
        name: what the user typed for `--data`.
        synthetic: True for the demo culture.
        fingerprint: of all images read, and of the way they are used.
        train: what policies are learnt and probes are trained on.
        domains: what probes are scored on.
        validation: one sentence on `domains` for log, report and provenance.
        held_out: untouched source images that nothing is trained on; empty where `validate_on` decides and the source
            has no val split.
        targets: target type -> its images (H, W) uint8, without labels; empty where none was named.
    """

    name: str
    synthetic: bool
    fingerprint: str
    train: tuple[ProbeSample, ...]
    domains: tuple[Domain, ...]
    validation: str
    held_out: tuple[ProbeSample, ...] = ()
    targets: Mapping[str, tuple[NDArray[np.uint8], ...]] = field(default_factory=dict)


def load_study_data(
    data: str,
    *,
    root: Path | None,
    validate_on: Sequence[str] = (),
    target: Sequence[str] = (),
    max_images: int = 16,
    seed: int = 0,
) -> StudyData:
    """Read what a study on `data` needs.

    Probes are scored on one of these, in this order of precedence:

    * `validate_on`: labelled train and val images of those types. This uses labels of other types, so a policy chosen
      this way may not be called "found without labels" for them.
    * otherwise the source's own validation split under the held-back shifts (`shifts.HELD_BACK`), every shift a domain.
    * where the source has no validation split: whole wells of its training split if there are several, else the right
      third of every training image (probes then train on the left two thirds), under the same shifts.

    A domain holds up to 6 images and about 400,000 pixels (central windows of larger images), so that scoring costs the
    same on any data set.

    Args:
        target: types of which images are read, never labels.
        max_images: training images, and images of each target type and split; wells are taken in turn, so that few
            images still come from many wells.
        seed: of the noise in the held-back shifts.

    Raises:
        InputError, DataError: see `read_split` and `read_targets`; a validation type that is the source, or unlabelled.
    """
    source = read_split(data, "train", root)
    train_records = spread_over_wells(source.records, max_images)
    used = [source.where(lambda r: r in train_records)]
    if validate_on:
        domains, read = _labelled_types(validate_on, source, root)
        train, (held_out, own) = _samples(source, train_records), _val_split(data, root)
        used += [*read, *own]
        validation = f"labelled train and val images of {', '.join(d.name for d in domains)}"
    else:
        train, held_out, validation, read = _hold_out(data, source, train_records, root)
        used += read
        domains = shifted_domains(windows(held_out), seed)
    targets = read_targets(target, data, source, root, max_images)
    parts = [dataset.fingerprint()[:8] for dataset in used]
    if targets:
        parts.append(pixel_digest([image for images in targets.values() for image in images]))
    return StudyData(
        data,
        source.synthetic,
        "-".join(parts),
        tuple(train),
        tuple(domains),
        validation,
        tuple(windows(held_out) if held_out else ()),
        targets,
    )


def split_by_wells(records: Sequence[ImageRecord]) -> tuple[list[ImageRecord], list[ImageRecord]] | None:
    """(training, validation): the last third of the wells, at least one, is held out; None when there is one well."""
    wells = list(dict.fromkeys(r.well for r in records))
    if len(wells) < 2:
        return None
    held = set(wells[-max(len(wells) // 3, 1) :])
    return [r for r in records if r.well not in held], [r for r in records if r.well in held]


def split_across(sample: ProbeSample, share: float = TRAINING_SHARE) -> tuple[ProbeSample, ProbeSample]:
    """The left `share` of an image and the rest; a cell on the cut is cut, pieces under 10 pixels are dropped."""
    width = sample.image.shape[1]
    cut = round(width * share)

    rows = slice(0, sample.image.shape[0])
    return _part(sample, "left", rows, slice(0, cut)), _part(sample, "right", rows, slice(cut, width))


def windows(samples: Sequence[ProbeSample]) -> list[ProbeSample]:
    """At most `DOMAIN_IMAGES` of the samples, evenly spaced, cut to central windows of `DOMAIN_PIXELS` in all."""
    count = min(len(samples), DOMAIN_IMAGES)
    kept = [samples[i] for i in np.linspace(0, len(samples) - 1, count).round().astype(int)]
    if sum(s.image.size for s in kept) <= DOMAIN_PIXELS:
        return kept
    side = math.isqrt(DOMAIN_PIXELS // count)

    def middle(length: int) -> slice:
        start = max(length - side, 0) // 2
        return slice(start, start + min(side, length))

    return [_part(s, "window", middle(s.image.shape[0]), middle(s.image.shape[1])) for s in kept]


def _part(sample: ProbeSample, suffix: str, rows: slice, columns: slice) -> ProbeSample:
    image = np.ascontiguousarray(sample.image[rows, columns])
    instances = sample.instances.map_layers(lambda layer: layer[rows, columns]).drop_specks(MIN_AREA)
    return ProbeSample(f"{sample.id}#{suffix}", image, instances)


def shifted_domains(samples: Sequence[ProbeSample], seed: int) -> list[Domain]:
    """One domain per held-back shift, each with all samples."""
    domains = []
    for number, shift in enumerate(HELD_BACK):
        rng = np.random.default_rng([seed, number])
        shifted = [ProbeSample(s.id, *shift.apply(s.image, s.instances, rng)) for s in samples]
        domains.append(Domain(shift.name, tuple(shifted)))
    return domains


def _val_split(data: str, root: Path | None) -> tuple[list[ProbeSample], list[CellDataset]]:
    """Images of the source's val split and what was read of it; nothing where it has none."""
    validation = read_split(data, "val", root, missing_ok=True)
    kept = spread_over_wells(validation.records, DOMAIN_IMAGES)
    return _samples(validation, kept), [validation.where(lambda r: r in kept)] if kept else []


def _hold_out(
    data: str, source: CellDataset, records: Sequence[ImageRecord], root: Path | None
) -> tuple[list[ProbeSample], list[ProbeSample], str, list[CellDataset]]:
    shifts = f"under {len(HELD_BACK)} held-back shifts"
    held_out, used = _val_split(data, root)
    if held_out:
        return _samples(source, records), held_out, f"the source's val split {shifts}", used
    by_wells = split_by_wells(records)
    if by_wells is not None:
        train, last = by_wells
        last = list(spread_over_wells(last, DOMAIN_IMAGES))
        wells = ", ".join(dict.fromkeys(r.well for r in last))
        text = f"well {wells} of the source's train split {shifts} (the source has no val split)"
        return _samples(source, train), _samples(source, last), text, []
    halves = [split_across(sample) for sample in _samples(source, records)]
    text = (
        f"the right third of the source's train images {shifts}, probes train on the left two thirds "
        "(the source has no val split and one well)"
    )
    return [left for left, _ in halves], [right for _, right in halves], text, []


def _labelled_types(
    types: Sequence[str], source: CellDataset, root: Path | None
) -> tuple[list[Domain], list[CellDataset]]:
    domains, read = [], []
    for name in types:
        samples: list[ProbeSample] = []
        for split in ("train", "val"):
            dataset = read_split(name, split, root, missing_ok=True)
            records = spread_over_wells(dataset.records, DOMAIN_IMAGES // 2)
            own = sorted({r.cell_type for r in records} & set(source.cell_types))
            if own:
                raise InputError(f"--validate-on {name}: {own[0]} is the source type; name types it is not trained on")
            if records:
                samples += _samples(dataset, records)
                read.append(dataset.where(lambda r, keep=records: r in keep))  # type: ignore[misc]
        if not samples:
            raise DataError(f"--validate-on {name}: it has no labelled train or val image; choose other types")
        domains.append(Domain(name, tuple(windows(samples))))
    return domains, read


def _samples(dataset: CellDataset, records: Sequence[ImageRecord]) -> list[ProbeSample]:
    return [ProbeSample(r.id, grey(dataset.image(r)), dataset.instances(r)) for r in records]


def foreground_pairs(samples: Sequence[ProbeSample]) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """What the inner search learns from: images and their binary masks."""
    return [(s.image, s.instances.foreground()) for s in samples]
