"""Checks of an annotation file's entries: ids given twice, ids that lead nowhere, names that stand for two images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from policy_search.cells.checks.findings import Finding, amount, some
from policy_search.cells.coco import CocoFile
from policy_search.cells.dataset import CellDataset, ImageRecord
from policy_search.cells.livecell import FileReader


@dataclass
class Ids:
    """Ids of one annotation file, collected image by image.

    Attributes:
        coco: the file.
        seen: annotation ids.
        again: those that were seen before, as often as they come again.
        unknown: categories that the file does not list, with their annotations counted.
    """

    coco: CocoFile
    seen: set[Any] = field(default_factory=set)
    again: list[Any] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, annotations: Iterable[dict[str, Any]]) -> None:
        """Take in the annotations of one image. Those without an id or a category have nothing to clash."""
        for annotation in annotations:
            key = annotation.get("id")
            if isinstance(key, int | str):
                (self.again.append if key in self.seen else self.seen.add)(key)
            category = annotation.get("category_id")
            if category is not None and self.coco.categories:
                listed = isinstance(category, int | str) and category in self.coco.categories
                self.unknown[str(category)] += not listed

    def findings(self, split: str) -> Iterator[Finding]:
        """What the whole file showed."""
        name = str(self.coco.path)
        if self.again:
            text = f"{amount(len(self.again), 'annotation')} with the id of another one ({some(_shown(self.again))})"
            yield Finding("annotation-id-repeated", name, split, text, len(self.again))
        count = sum(self.unknown.values())
        if count:
            listed = some(sorted(map(str, self.coco.categories)))
            text = f"{amount(count, 'annotation')} of category {some(_shown(+self.unknown))}; the file lists {listed}"
            yield Finding("category-unknown", name, split, text, count)


def _shown(ids: Iterable[Any]) -> list[str]:
    return sorted({str(key)[:40] for key in ids}, key=lambda text: (len(text), text))


def file_findings(coco: CocoFile, split: str) -> Iterator[Finding]:
    """Entries of a file that are never seen, or that hide others."""
    orphans = {key: len(found) for key, found in coco.annotations.items() if key not in coco.images}
    if orphans:
        count = sum(orphans.values())
        text = f"{amount(count, 'annotation')} of image ids that the file does not hold ({some(_shown(orphans))})"
        yield Finding("annotation-orphaned", str(coco.path), split, text, count)
    for entry in coco.replaced:
        last = coco.images[entry["id"]]
        key, name, kept = entry["id"], str(entry["file_name"]), str(last["file_name"])
        if (name, entry["height"], entry["width"]) == (kept, last["height"], last["width"]):
            yield Finding("image-entry-repeated", name, split, f"image id {key} stands twice in {coco.path.name}")
        else:
            text = f"image id {key} is also that of {kept} in {coco.path.name}, which gets the annotations of both"
            yield Finding("image-id-conflict", name, split, text)


def name_findings(dataset: CellDataset) -> Iterator[Finding]:
    """Records of one split that cannot be told apart: the annotations of all but the last are lost."""
    for key, count in Counter((record.id, record.split) for record in dataset).items():
        if count > 1:
            text = f"{count} image entries have this name, under different ids or in different folders"
            yield Finding("image-name-conflict", *key, text, count)


def coco_files(dataset: CellDataset) -> list[CocoFile]:
    """The annotation files behind a dataset, in order of first use; none behind the demo culture."""
    return _files(dataset.reader.sources) if isinstance(dataset.reader, FileReader) else []


def coco_files_of_unlabelled(dataset: CellDataset) -> list[CocoFile]:
    """The annotation files that call images of the dataset unlabelled."""
    return _files(dataset.reader.unlabelled) if isinstance(dataset.reader, FileReader) else []


def _files(sources: dict[str, tuple[CocoFile, int]]) -> list[CocoFile]:
    return list({str(coco.path): coco for coco, _ in sources.values()}.values())


def hidden_findings(dataset: CellDataset, record: ImageRecord) -> Iterator[Finding]:
    """Annotations of an unlabelled image."""
    if not isinstance(dataset.reader, FileReader) or record.id not in dataset.reader.unlabelled:
        return
    coco, image_id = dataset.reader.unlabelled[record.id]
    count = len(coco.annotations.get(image_id, []))
    if count:
        text = f'{amount(count, "annotation")} of an image with "annotated": false in {coco.path.name}'
        yield Finding("annotation-hidden", record.id, record.split, text, count)
