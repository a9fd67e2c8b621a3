"""A finished experiment on the demo culture whose models are made up: they find labelled cells, with known errors."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.config import FinetuneConfig
from detection.matches import match_images
from detection.matrices.record import CellRecord, MatrixRecord, StageRecord, save_matrix
from detection.statistics.comparison import Comparison, file_stem
from detection.store import Result, Store
from policy_search.augment import load_policy
from policy_search.cells import CellDataset, Instance, resolve

VERSIONS = {"torch": "2.13.0", "albumentations": "2.0.8"}


def experiment(
    folder: Path,
    rows: Mapping[str, float],
    *,
    name: str = "table1",
    title: str = "Table 1: single augmentations",
    types: Sequence[str] = ("A172", "BT474"),
    images: int = 2,
    seeds: Sequence[int] = (0, 1),
    without: Iterable[tuple[str, int]] = (),
    policies: Mapping[str, str] | None = None,
    keep: bool = True,
) -> Path:
    """Write a record, a store (`results.sqlite`) and run folders under `folder`; gives back the record's file.

    Args:
        rows: label → share of cells that its models find; the first is the reference.
        images: tested of each type.
        without: (row, seed) that were not run.
        policies: label → naive strategy, or `search:NAME`; else the label is its own policy.
        keep: write detections and ground truth.
    """
    named = ",".join(types)
    found = resolve(f"demo/{named}", "test")
    chosen = {r.id for t in types for r in found.of_type(t).records[:images]}
    dataset = found.where(lambda record: record.id in chosen)
    store = Store(folder / "results.sqlite")
    cells = []
    for label, share in rows.items():
        for seed in seeds:
            if (label, seed) not in set(without):
                policy = (policies or {}).get(label, label)
                cells.append(_cell(folder, store, dataset, label, policy, share, seed, f"demo/{named}", keep))
    stages = [
        StageRecord(
            kind="base", name=f"base A172, seed {s}", folder=f"base/{s}", seconds=60.0 + s, place="lab1",
            command=f"detect pretrain --data demo/A172 --seed {s} --out base/{s}",
        ) for s in seeds
    ]  # fmt: skip
    record = MatrixRecord(
        experiment=name, title=title, scale="demo", reference=next(iter(rows)), rows=tuple(rows),
        sources=("demo/A172",), seeds=tuple(seeds), planned=len(rows) * len(seeds), cells=tuple(cells),
        stages=tuple(stages), synthetic=True, data="demo", versions=VERSIONS, threads=1,
        started="2026-01-01T00:00:00+00:00", finished="2026-01-01T01:00:00+00:00", cpu_seconds=1234.5,
        command=f"detect matrix experiments/{name}.toml --scale demo",
    )  # fmt: skip
    path = folder / f"{name}.json"
    save_matrix(record, path)
    return path


def _cell(
    folder: Path, store: Store, dataset: CellDataset, label: str, policy: str, share: float, seed: int, tested: str,
    keep: bool,
) -> CellRecord:  # fmt: skip
    document = load_policy("flip" if policy.startswith("search:") else policy)
    run = folder / "cell" / f"{zlib.crc32(label.encode()):08x}-{seed}"
    results, images = [], {}
    for name in dataset.cell_types:
        comparison = detect(dataset.of_type(name), share, np.random.default_rng([seed, zlib.crc32(label.encode())]))
        if keep:
            comparison.write(run / "test", file_stem(name))
        images[name] = match_images(comparison.truth, comparison.detections, comparison.wells)
        results.append(
            Result(
                source="demo/A172", policy_hash=document.content_hash, policy=label, seed=seed, config_hash=label,
                cell_type=name, seen=name == "A172", **comparison.scores().model_dump(), train_fingerprint="t",
                test_fingerprint="f", synthetic=True, date="2026-01-01T00:00:00+00:00", seconds=10.0, versions="{}",
            )
        )  # fmt: skip
    store.put(results, images)
    config = FinetuneConfig(
        data="demo/A172", out=run, weights=Path("base.pth"), policy=policy, evaluate=tested, seed=seed
    )
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(config.model_dump_json())
    document.save(run / "policy.json")
    return CellRecord(
        label=label, paper=policy if policy in ("none", "flip", "crop") else None, source="demo/A172", seed=seed,
        policy_hash=document.content_hash, config_hash=label, policy=policy,
        policy_file=str((run / "policy.json").relative_to(folder)), folder=str(run.relative_to(folder)),
        seconds=10.0 + seed, place="lab1",
        commands=(f"detect pretrain --data demo/A172 --seed {seed} --out base/{seed}",
                  f"detect finetune --data demo/A172 --policy '{policy}' --seed {seed}"),
    )  # fmt: skip


def detect(dataset: CellDataset, share: float, rng: np.random.Generator) -> Comparison:
    """Each cell is found as it is labelled with the probability `share`, and a false one stands beside every third."""
    comparison = Comparison()
    for record in dataset.records:
        sample = dataset.sample(record)
        height, width = sample.instances.shape
        cells, scores = [], []
        for cell in sample.instances:
            if rng.random() < share:
                cells.append(cell)
                scores.append(float(rng.uniform(0.2, 1)))
            if rng.random() < 1 / 3:
                h, w = cell.mask.shape
                cells.append(
                    Instance(1, (cell.x0 + width // 2) % (width - w + 1), cell.y0 % (height - h + 1), cell.mask)
                )
                scores.append(float(rng.uniform(0.1, 0.9)))
        comparison.add(sample, (cells, scores), record.id)
    return comparison
