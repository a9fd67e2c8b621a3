"""A tiny search in its folder, and what is looked at when it has ended: shared by the tests of search runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_search.config import SearchConfig
from policy_search.relaxed.search import SearchSettings

TINY: dict[str, Any] = {
    "data": "demo/A172", "steps": 12, "sub_policies": 2, "crop": 32, "batch": 4, "max_images": 2, "checkpoint_every": 4,
    "seed": 3, "recognise_steps": 3,
}  # fmt: skip
WARMUP = SearchSettings().warmup
STEPS = range(-WARMUP, 12)  # the warm-up's are negative


def tiny(out: Path, **changes: Any) -> SearchConfig:
    return SearchConfig(**{**TINY, "out": out, **changes})


def steps_in(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_same_end(folder: Path, whole: Path) -> None:
    """Policy and history byte for byte, the state tensor for tensor, no litter."""
    for name in ("policy.json", "history.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    found, wanted = (torch.load(f / "checkpoint.pt", weights_only=True)["state"] for f in (folder, whole))
    for part in ("policy", "average", "critic", "features"):
        assert all(torch.equal(found[part][name], wanted[part][name]) for name in wanted[part]), part
    assert torch.equal(found["generator"], wanted["generator"])
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}


def assert_scalars(folder: Path) -> None:
    """TensorBoard's own reader finds every step once, with the values of the history."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    fields = {
        "critic/loss": "critic_loss", "critic/distance": "distance", "critic/penalty": "penalty",
        "policy/loss": "policy_loss", "policy/spread": "spread", "policy/multiplier": "multiplier",
    }  # fmt: skip
    groups = {f"strength/{name}" for name in rows[-1]["strengths"]}
    assert set(reader.Tags()["scalars"]) == set(fields) | groups
    assert len(groups) == 5
    for tag in reader.Tags()["scalars"]:
        learns = not tag.startswith("critic/")
        wanted = {
            row["step"]: row["strengths"][tag.removeprefix("strength/")] if tag in groups else row[fields[tag]]
            for row in rows
            if row["step"] >= 0 or not learns
        }
        found = [(event.step, event.value) for event in reader.Scalars(tag)]
        assert [step for step, _ in found] == list(wanted), tag
        assert [value for _, value in found] == [float(np.float32(value)) for value in wanted.values()], tag
