"""The virtual training set as files: a COCO file and PNG images that train a network to the same weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TextIO

from PIL import Image as PillowImage

from detection.dataset import TrainingSet
from policy_search.cells import ImageRecord, InstanceMap
from policy_search.cells.errors import InputError
from policy_search.cells.files import write_json

ANNOTATIONS, IMAGES, PROVENANCE = "annotations.json", "images", "provenance.json"
FORMAT = 1


def materialize(images: TrainingSet, folder: str | Path) -> Path:
    """Write every draw of `images` in its order; gives back the COCO file.

    Training on `FOLDER/annotations.json:FOLDER/images` with factor 1 and no policy equals training on `images`: pixels
    are lossless, masks are run lengths that may overlap, and each entry holds the cell type, the well and the position
    of its image. `provenance.json` says what it was made from and lists a digest of every file. The folder appears in
    one step, when all of it is there.

    Raises:
        InputError: the folder holds anything else, or what was written there has changed, or it cannot be written.
    """
    target = Path(folder)
    made = _made(images)
    if target.is_dir() and any(target.iterdir()):
        return _reuse(target, made)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file: name a folder with --materialize")
    scratch = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        (scratch / IMAGES).mkdir()  # a plain folder has the access rights that the user's folders have
        scratch.chmod((scratch / IMAGES).stat().st_mode)
        _write(images, scratch)
        files = {path.relative_to(scratch).as_posix(): _sha256(path) for path in sorted(scratch.rglob("*.*"))}
        write_json(scratch / PROVENANCE, {**made, "files": files})
        os.replace(scratch, target)
    except OSError as error:
        if target.is_dir() and any(target.iterdir()):  # another process was faster
            return _reuse(target, made)
        raise InputError(
            f"cannot write the training set to {target}: {error.strerror or error}. Choose another --materialize."
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return target / ANNOTATIONS


def _made(images: TrainingSet) -> dict[str, Any]:
    """Everything that the content depends on."""
    document = images.augmenter.document if images.augmenter else None
    return {
        "format": FORMAT,
        "policy": document.content_hash if document else None,
        "seed": images.seed,
        "factor": images.factor,
        "min_area": images.min_area,
        "fingerprint": images.dataset.fingerprint(),
        "source": ",".join(images.dataset.cell_types),
        "synthetic": images.dataset.synthetic,
        "images": len(images),
    }


def _reuse(target: Path, made: dict[str, Any]) -> Path:
    """The COCO file of a folder that holds exactly what would be written."""
    try:
        found = json.loads((target / PROVENANCE).read_text(encoding="utf-8"))
        files = found.pop("files")
        names = {path.relative_to(target).as_posix() for path in target.rglob("*.*")} - {PROVENANCE}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{target} is not empty and holds no training set of ours: name a new --materialize"
        ) from error
    different = sorted(key for key in made if found.get(key) != made[key])
    if different:
        raise InputError(
            f"{target} holds another training set (other {', '.join(different)}): name a new --materialize or remove it"
        )
    for name in sorted(names ^ set(files)) or [n for n in files if _sha256(target / n) != files[n]]:
        raise InputError(f"{target / name} is not what was written there: remove {target} to write it again")
    return target / ANNOTATIONS


def _write(images: TrainingSet, folder: Path) -> None:
    entries = []
    count = 0
    with (folder / ANNOTATIONS).open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')  # first, so that only the short entries of images have to be remembered
        for index in range(len(images)):
            record, draw = images.entry(index)
            pixels, instances = images[index]
            entry = _entry(record, draw, index)
            PillowImage.fromarray(pixels).save(folder / IMAGES / entry["file_name"], format="PNG")
            count = _write_cells(file, instances, entry["id"], count)
            entries.append(entry)
        categories = [{"id": 1, "name": "cell"}]
        file.write(f'\n], "categories": {json.dumps(categories)}, "images": {json.dumps(entries, indent=0)}}}\n')


def _entry(record: ImageRecord, draw: int, index: int) -> dict[str, Any]:
    """The COCO entry of one draw. The number keeps names apart and in order."""
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in record.id.rpartition("/")[2])
    return {
        "id": index + 1,
        "file_name": f"{index:06d}_{stem}_draw{draw}.png",
        "height": record.height,
        "width": record.width,
        "cell_type": record.cell_type,
        "well": record.well,
        "position": index,
        "source": record.id,
        "annotation_incomplete": not record.complete,
    }


def _write_cells(file: TextIO, instances: InstanceMap, image_id: int, count: int) -> int:
    """Append the annotations of one image, in the order of ids; gives back how many there are now."""
    rles, boxes, areas = instances.rles(), instances.boxes().tolist(), instances.areas().tolist()
    for rle, (x0, y0, x1, y1), area in zip(rles, boxes, areas, strict=True):
        annotation = {
            "id": count + 1,
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 0,
            "area": area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        }
        file.write(("," if count else "") + "\n" + json.dumps(annotation))
        count += 1
    return count


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
