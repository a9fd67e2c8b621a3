"""Shared fixtures: a small generated culture of ellipses, and the folder of real images where there is one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

# A server, started when the first test asks for it; commands in a folder of their own.
pytest_plugins = ("tests.postgres", "tests.study_commands", "tests.cells.livecell_mirror")
ROOT = Path(__file__).resolve().parents[1]
# No test reaches the network by naming a cell type; those of fetching turn it on again, against a server of their own.
os.environ["POLICY_SEARCH_OFFLINE"] = "1"


def ellipse_polygons(rng: np.random.Generator, count: int, height: int, width: int) -> list[list[list[float]]]:
    """COCO rings of `count` ellipses, some overlapping, some cut by the frame."""
    polygons = []
    for _ in range(count):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        a, b = rng.uniform(4, 9), rng.uniform(3, 6)
        turn = rng.uniform(0, np.pi)
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        x = cx + a * np.cos(t) * np.cos(turn) - b * np.sin(t) * np.sin(turn)
        y = cy + a * np.cos(t) * np.sin(turn) + b * np.sin(t) * np.cos(turn)
        ring = np.stack([np.clip(x, 0, width), np.clip(y, 0, height)], 1).round(2).ravel().tolist()
        polygons.append([ring])
    return polygons


def box_and_area(ring: list[float]) -> dict[str, object]:
    """COCO's `bbox` and `area` of an annotation with one ring."""
    points = np.array(ring, np.float32).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(cv2.contourArea(points))}


def paint(polygons: list[list[list[float]]], rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A grey image (H, W) uint8 in which the ellipses are darker than a noisy background."""
    image = rng.normal(128, 4, (height, width)).astype(np.float32)
    for rings in polygons:
        points = np.array(rings[0]).reshape(-1, 2).round().astype(np.int32)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [points], 1)
        image[mask > 0] -= rng.uniform(20, 40)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_livecell(
    root: Path,
    plan: dict[str, dict[str, int]],
    *,
    flat: bool = False,
    mapping: bool = False,
    cells: int = 12,
    size: tuple[int, int] = (96, 112),
    seed: int = 0,
) -> Path:
    """A folder in LIVECell's layout: `plan` gives images per type and split. Splits without an image get no file."""
    rng = np.random.default_rng(seed)
    height, width = size
    for type_name, splits in plan.items():
        for split, count in splits.items():
            images, annotations = [], []
            for index in range(count):
                well = {"train": "A", "val": "B", "test": "C"}[split] + str(index // 2 + 1)
                name = f"{type_name}_Phase_{well}_1_00d{index:02d}h00m_1.tif"
                polygons = ellipse_polygons(rng, cells, height, width)
                folder = root / "images" / ("livecell_test_images" if split == "test" else "livecell_train_val_images")
                folder = folder if flat else folder / type_name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(paint(polygons, rng, height, width)).save(folder / name)
                images.append(
                    {"id": 100 + index, "file_name": name, "height": height, "width": width, "url": "http://x"}
                )
                annotations += [
                    {
                        "id": 1000 * (index + 1) + i, "image_id": 100 + index, "category_id": 1, "iscrowd": 0,
                        "segmentation": rings, **box_and_area(rings[0]),
                    }
                    for i, rings in enumerate(polygons)
                ]  # fmt: skip
            if count:
                target = root / "annotations" / "LIVECell_single_cells" / type_name.lower() / f"{split}.json"
                target.parent.mkdir(parents=True, exist_ok=True)
                body = {str(a["id"]): a for a in annotations} if mapping else annotations
                target.write_text(json.dumps({"images": images, "annotations": body, "categories": [{"id": 1}]}))
    return root


@pytest.fixture
def livecell_root(tmp_path: Path) -> Path:
    """Two types; A172 has all splits, BV2 no val; one type has unlabelled images only."""
    root = write_livecell(
        tmp_path / "livecell", {"A172": {"train": 3, "val": 2, "test": 2}, "BV2": {"train": 1, "val": 0, "test": 1}}
    )
    folder = root / "unlabeled" / "SkBr3"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).integers(0, 255, (96, 112), np.uint8)
    Image.fromarray(noise).save(folder / "SkBr3_Phase_D1_1_00d00h00m_1.tif")
    return root


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of real LIVECell images, or a skip that says how to give one."""
    root = Path(os.environ.get("LIVECELL_ROOT") or ROOT.parent / "shared" / "data" / "livecell-mini")
    if not (root / "annotations").is_dir():
        pytest.skip(f"no real images in {root}: set LIVECELL_ROOT to a LIVECell folder to run this test")
    return root


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny search that nobody interrupted; tests leave it as it is."""
    from policy_search.search_run import run_search  # loads torch, which most tests do without
    from tests.search_runs import STEPS, tiny

    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_search(tiny(out)).made == len(STEPS)
    return out


@pytest.fixture
def no_picture(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture takes longer than all the rest of a tiny run; the run that nobody interrupted and those in processes
    of their own make it."""
    from policy_search import search_run

    def write(document: object, dataset: object, path: Path, *, seed: int) -> None:
        path.write_bytes((whole / "preview.png").read_bytes())

    monkeypatch.setattr(search_run, "save_preview", write)


@pytest.fixture
def call_policy_search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Call `policy-search` with arguments; return (exit code, standard output, standard error)."""
    from policy_search import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["policy-search", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return code, *capsys.readouterr()

    return call
