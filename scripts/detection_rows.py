"""One row of `bench_detection.py` in a process of its own; prints JSON: detection_rows.py ROW REQUEST."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection_loops import Ours, Plain

from detection.dataset import Crops, TrainingSet, labelled
from detection.feature_cache import FeatureCache
from detection.features import cached
from detection.livecell import AREA_RANGES, MAX_DETECTIONS
from detection.mapper import batches
from detection.model import freeze_bottom_up, training_mode
from detection.network import ModelConfig
from detection.precision import resolve_precision
from detection.presets import preset
from detection.recipe import Recipe
from detection.scores import coco_arrays
from policy_search.cells import CellDataset, resolve
from policy_search.cells.instances import Instance, InstanceMap, encode_instance

BEST = resolve_precision("auto", "cpu")


def clocked(work: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_mb() -> float:
    """Most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def source(request: dict[str, Any]) -> CellDataset:
    """The labelled training images."""
    root = Path(request["root"]) if request.get("root") else None
    return labelled(resolve(request["data"], "train", root))


def field(cells: int, height: int, width: int, seed: int) -> InstanceMap:
    """`cells` discs of 12 to 34 pixels, scattered about the places of a grid, so that some touch and overlap."""
    rng = np.random.default_rng(seed)
    columns = round((cells * width / height) ** 0.5)
    rows = -(-cells // columns)
    found = []
    for label in range(1, cells + 1):
        row, column = divmod(label - 1, columns)
        side = int(rng.integers(12, 35))
        y = int((row + 0.5) * height / rows + rng.normal(0, 3)) - side // 2
        x = int((column + 0.5) * width / columns + rng.normal(0, 3)) - side // 2
        y, x = min(max(y, 0), height - side), min(max(x, 0), width - side)
        ys, xs = np.ogrid[:side, :side]
        disc = (ys - side / 2 + 0.5) ** 2 + (xs - side / 2 + 0.5) ** 2 <= (side / 2) ** 2
        found.append(Instance(label, x, y, disc))
    return InstanceMap.from_instances(found, height, width)


def policy(request: dict[str, Any]) -> dict[str, Any]:
    """A policy on an image with 300 instances, as label layers and as 300 masks in the same `Compose`."""
    import albumentations as A
    import cv2

    from policy_search.augment import Augmenter
    from policy_search.augment.apply import sample_seed
    from policy_search.augment.documents import PolicyDocument

    cv2.setNumThreads(request["threads"])
    height, width, cells = 520, 704, 300
    instances = field(cells, height, width, 0)
    image = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
    tree = A.Compose([
        A.Affine(rotate=(-20, 20), scale=(0.8, 1.25), p=1.0), A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(p=1.0),
    ])  # fmt: skip
    document = PolicyDocument.from_compose(tree)
    ours, theirs = Augmenter(document), document.compose()
    masks = np.zeros((cells, height, width), np.uint8)
    for cell in instances:
        x0, y0, x1, y1 = cell.box
        masks[cell.id - 1, y0:y1, x0:x1] = cell.mask
    results: dict[str, Any] = {}

    def layered(draw: int) -> None:
        results["ours"] = ours(image, instances, seed=0, image_id="a", draw=draw, min_area=1)

    def stacked(draw: int) -> None:
        entropy = sample_seed(0, "a", draw)
        theirs.set_random_state(np.random.default_rng(entropy).spawn(2)[0], random.Random(entropy))
        results["theirs"] = theirs(image=image, masks=masks)

    separate = list(masks)

    def listed() -> None:
        theirs(image=image, masks=separate)

    times: dict[str, list[float]] = {"ours": [], "theirs": [], "theirs, list": []}
    differing = 0
    for draw in range(request["repeats"]):
        times["ours"].append(clocked(layered, draw)[0])
        times["theirs"].append(clocked(stacked, draw)[0])
        times["theirs, list"].append(clocked(listed)[0])
        # A pixel of a mask stays a pixel of that mask, whatever lies above it.
        for cell in results["ours"][1]:
            x0, y0, x1, y1 = cell.box
            other = np.asarray(results["theirs"]["masks"][cell.id - 1])
            differing += int(other.sum()) != int(cell.mask.sum()) or not (other[y0:y1, x0:x1] == cell.mask).all()
    return {"seconds": times, "cells": cells, "layers": len(instances.layers), "differing_masks": differing}


def evaluation(request: dict[str, Any]) -> dict[str, Any]:
    """60,000 detections against as many cells, by faster-coco-eval and by pycocotools; the raw arrays compared."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    found: list[dict[str, Any]] = []
    height, width = 520, 704
    for number in range(1, request["images"] + 1):
        truth["images"].append({"id": number, "height": height, "width": width, "file_name": f"{number}.png"})
        for cell, box in zip(
            *(lambda m: (m, m.boxes().tolist()))(field(request["cells"], height, width, number)), strict=True
        ):
            rle = encode_instance(cell, height, width)
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
            x0, y0, x1, y1 = box
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "area": int(cell.mask.sum()), "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": rle,
            })  # fmt: skip
            dx, dy = (int(v) for v in rng.integers(-4, 5, 2))
            moved = Instance(1, min(max(cell.x0 + dx, 0), width - cell.mask.shape[1]),
                             min(max(cell.y0 + dy, 0), height - cell.mask.shape[0]), cell.mask)  # fmt: skip
            rle = encode_instance(moved, height, width)
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
            score = float(rng.random())
            found.append({"image_id": number, "category_id": 1, "segmentation": rle, "score": score})
    results: dict[str, Any] = {}

    def ours() -> None:
        results["ours"] = coco_arrays(truth, found)

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = truth
            coco.createIndex()
            judge = COCOeval(coco, coco.loadRes([dict(d) for d in found]), "segm")
            judge.params.maxDets = list(MAX_DETECTIONS)
            judge.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
            judge.params.areaRngLbl = list(AREA_RANGES)
            judge.evaluate()
            judge.accumulate()
        results["theirs"] = {name: np.asarray(judge.eval[name]) for name in ("precision", "recall")}

    ours_s, theirs_s = clocked(ours), clocked(theirs)
    away = max(float(np.abs(results["ours"][k] - results["theirs"][k]).max()) for k in ("precision", "recall"))
    return {"seconds": {"ours": [ours_s[0]], "theirs": [theirs_s[0]]}, "masks": len(found), "difference": away}


def _whole_batch(request: dict[str, Any], channels: int, edge: int) -> Sequence[dict[str, Any]]:
    """Two whole images."""
    crops = Crops(TrainingSet(source(request), None, 0, factor=1), 0, 0, 2, sizes=(edge,))
    return next(iter(batches(crops, channels, 2)))


def iteration(request: dict[str, Any]) -> dict[str, Any]:
    """An iteration of `r50` on two whole images, in detectron2's loop and in ours, in turn."""
    network, recipe = preset("r50")[0], preset("r50").finetuning
    batch = _whole_batch(request, network.channels, 520)
    sides: dict[str, Plain | Ours] = {}
    if request["side"] in ("both", "theirs"):
        sides["theirs"] = Plain(network, recipe.model_copy(update={"precision": "fp32"}))
    if request["side"] in ("both", "ours"):
        sides["ours"] = Ours(network, recipe.model_copy(update={"precision": BEST}))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(request["repeats"] + 1):
        for name, loop in sides.items():
            ready = loop.prepared(batch)
            took = clocked(loop.step, ready, number, 100)
            if number:  # the first warms up
                times[name].append(took)
    cells = [len(sample["instances"]) for sample in batch]
    return {
        "seconds": {k: [w for w, _ in v] for k, v in times.items()},
        "cpu": {k: [c for _, c in v] for k, v in times.items()},
        "cells": cells, "shape": list(batch[0]["image"].shape), "precision": BEST, "peak_mb": peak_mb(),
    }  # fmt: skip


def cache(request: dict[str, Any]) -> dict[str, Any]:
    """An iteration of `livecell` with its frozen backbone, without and with cached features."""
    network, recipe = preset("livecell")[0], preset("livecell").finetuning
    batch = _whole_batch(request, network.channels, 520)
    loop = Ours(network, recipe.model_copy(update={"precision": BEST}))
    freeze_bottom_up(loop.model)
    training_mode(loop.model)
    times: dict[str, list[tuple[float, float]]] = {"without": [], "with": [], "filling": []}
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureCache(Path(folder), 10 << 30)
        with cached(loop.model, store):
            times["filling"].append(clocked(loop.step, list(batch), 0, 100))
        for number in range(1, request["repeats"] + 1):
            for name, used in (("without", None), ("with", store)):
                with cached(loop.model, used):
                    times[name].append(clocked(loop.step, list(batch), number, 100))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "seconds": {k: [w for w, _ in v] for k, v in times.items()},
        "cpu": {k: [c for _, c in v] for k, v in times.items()},
        "cells": [len(sample["instances"]) for sample in batch], "shape": list(batch[0]["image"].shape),
        "mb_an_image": size / 2**20 / len(batch), "precision": BEST, "peak_mb": peak_mb(),
    }  # fmt: skip


def tiny(request: dict[str, Any]) -> dict[str, Any]:
    """An iteration of `tiny` on two crops of 256 pixels, and one of a ResNet-18 under LIVECell's heads."""
    network, recipe = preset("tiny")[0], preset("tiny").pretraining
    heavy: ModelConfig = preset("r50")[0].model_copy(
        update={"block": "basic", "stem": 64, "stages": (64, 128, 256, 512), "blocks": (2, 2, 2, 2)}
    )
    crops = Crops(TrainingSet(source(request), None, 0, factor=1), 256, 0, 2 * (request["repeats"] + 10))
    grey, three = list(batches(crops, 1, 2)), next(iter(batches(crops, 3, 2)))
    found: dict[str, Any] = {"seconds": {}, "cpu": {}}
    cases: dict[str, Plain | Ours] = {
        "ours": Ours(network, recipe.model_copy(update={"precision": BEST})),
        "ours in fp32": Ours(network, recipe.model_copy(update={"precision": "fp32"})),
        "detectron2's loop": Plain(network, recipe.model_copy(update={"precision": "fp32"})),
        "ResNet-18, LIVECell's heads, detectron2's loop": Plain(heavy, Recipe(optimizer="sgd", lr=1e-4)),
    }
    for name, loop in cases.items():
        big = name.startswith("ResNet")
        data = [loop.prepared(batch) for batch in ([three] * 3 if big else grey)]
        took = [clocked(loop.step, batch, i, 100) for i, batch in enumerate(data)]
        took = took[1:] if big else took[10:]
        found["seconds"][name], found["cpu"][name] = [w for w, _ in took], [c for _, c in took]
    return {**found, "precision": BEST}


def quality(request: dict[str, Any]) -> dict[str, Any]:
    """AP50 of `tiny` after the same iterations in one of the two loops."""
    from detection.evaluate import evaluate

    network, recipe = preset("tiny")[0], preset("tiny").pretraining
    seed, total = request["seed"], request["iterations"]
    # "fp32" is our loop in the other's arithmetic: what bf16 alone changes.
    kind = Plain if request["side"] == "theirs" else Ours
    precision = BEST if request["side"] == "ours" else "fp32"
    loop = kind(network, recipe.model_copy(update={"precision": precision}), seed)
    images = TrainingSet(source(request), None, seed, factor=1)
    crops = Crops(images, recipe.crop, seed, total * recipe.batch, flip=True)
    took = (0.0, 0.0)
    for number, batch in enumerate(batches(crops, network.channels, recipe.batch)):
        ready = loop.prepared(batch)
        step = clocked(loop.step, ready, number, total)
        took = (took[0] + step[0], took[1] + step[1])
    root = Path(request["root"]) if request.get("root") else None
    test = resolve(request["test"], "test", root, missing_ok=True).where(lambda record: record.annotated)
    loop.model.proposal_generator.__class__ = type(Ours(network, recipe).model.proposal_generator)
    scores = evaluate(loop.model, test)
    return {"ap50": {name: found.ap50 for name, found in scores.items()}, "seconds": took[0], "cpu": took[1]}


ROWS = {"policy": policy, "evaluation": evaluation, "iteration": iteration, "cache": cache, "tiny": tiny,
        "quality": quality}  # fmt: skip


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    asked = json.loads(sys.argv[2])
    torch.set_num_threads(asked["threads"])
    print(json.dumps(ROWS[sys.argv[1]](asked)))
