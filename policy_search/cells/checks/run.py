"""Going through datasets image by image, and the sum of what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from policy_search.cells.checks.across import Seen, across
from policy_search.cells.checks.entries import (
    Ids,
    coco_files,
    coco_files_of_unlabelled,
    file_findings,
    hidden_findings,
    name_findings,
)
from policy_search.cells.checks.findings import CODES, ERROR, Finding
from policy_search.cells.checks.overlaps import overlap_findings
from policy_search.cells.checks.pictures import digest, pixel_findings, read
from policy_search.cells.checks.shapes import shape_findings
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.errors import DataError
from policy_search.cells.livecell import FileReader

VERSION = 1  # of the document; raised when a key changes its meaning


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        findings: in the order of `CODES`, which has errors first, then in the order of the images.
        images: looked at, by split.
        cells: annotated ones that can be used.
    """

    findings: tuple[Finding, ...]
    images: dict[str, int]
    cells: int

    @property
    def usable(self) -> bool:
        """Whether every image can be used."""
        return self.errors == 0

    @property
    def errors(self) -> int:
        """Findings of level error."""
        return sum(f.level == ERROR for f in self.findings)

    @property
    def warnings(self) -> int:
        """Findings of level warning."""
        return len(self.findings) - self.errors

    def by_code(self) -> dict[str, list[Finding]]:
        """The findings of each code that has any."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.code, []).append(finding)
        return groups

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "version": VERSION,
            "summary": {
                "usable": self.usable,
                "images": sum(self.images.values()),
                "images_by_split": self.images,
                "cells": self.cells,
                "errors": self.errors,
                "warnings": self.warnings,
                "by_code": {
                    code: {
                        "level": CODES[code].level,
                        "findings": len(group),
                        "count": sum(f.count for f in group),
                        "counted": CODES[code].counted,
                    }
                    for code, group in self.by_code().items()
                },
            },
            "findings": [finding.document() for finding in self.findings],
        }


class Check:
    """A check under way: splits are added one after the other, so that only one of them need be in memory."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._seen: list[Seen] = []
        self._images: Counter[str] = Counter()

    def note(self, findings: Iterable[Finding]) -> None:
        """Take in what was found elsewhere, of files that could not be opened."""
        self._findings += findings

    def add(self, dataset: CellDataset, progress: Callable[[], None] = lambda: None) -> None:
        """Look at every image of one split; `progress` is called after each."""
        # Of a file with labelled images too, orphans are told with those.
        files = coco_files(dataset) or coco_files_of_unlabelled(dataset)
        ids = {str(coco.path): Ids(coco) for coco in files}
        for record in {record.id: record for record in dataset}.values():
            self._record(dataset, record, ids)
            self._images[record.split] += 1
            progress()
        split = dataset.records[0].split if len(dataset) else ""
        for found in ids.values():
            self._findings += [*file_findings(found.coco, split), *found.findings(split)]
        self._findings += name_findings(dataset)

    def report(self) -> Report:
        """What all that was added shows."""
        found = [*self._findings, *across(self._seen)]
        order = {code: place for place, code in enumerate(CODES)}
        found.sort(key=lambda f: order[f.code])
        return Report(tuple(found), dict(self._images), sum(one.cells or 0 for one in self._seen))

    def _record(self, dataset: CellDataset, record: ImageRecord, ids: dict[str, Ids]) -> None:
        image = read(dataset, record)
        pixels = None
        if isinstance(image, Finding):
            self._findings.append(image)
        else:
            self._findings += pixel_findings(image, record)
            pixels = digest(image)
        self._findings += hidden_findings(dataset, record)
        self._seen.append(Seen(record, pixels, self._cells(dataset, record, ids) if record.annotated else None))

    def _cells(self, dataset: CellDataset, record: ImageRecord, ids: dict[str, Ids]) -> int | None:
        try:
            instances = dataset.instances(record)
        except DataError as error:
            self._findings.append(Finding("shapes-damaged", record.id, record.split, str(error)))
            return None
        if not record.complete:
            self._findings.append(
                Finding("annotation-incomplete", record.id, record.split, "annotation is marked incomplete")
            )
        if isinstance(dataset.reader, FileReader):
            coco, image_id = dataset.reader.sources[record.id]
            annotations = coco.annotations.get(image_id, [])
            ids[str(coco.path)].add(annotations)
            self._findings += shape_findings(annotations, instances, record)
            # Masks that nobody drew, as those of the demo culture, overlap where cells do.
            self._findings += overlap_findings(annotations, instances, record)
        return len(instances)


def check_dataset(dataset: CellDataset) -> Iterator[Finding]:
    """Problems of one split, taken by itself."""
    check = Check()
    check.add(dataset)
    return iter(check.report().findings)
