"""The policies that experiments/quality.py compares: naive, random, AutoAlbument's converted, and ours."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
from quality_data import Culture
from sizes import recognised

from policy_search.augment import BASELINES, PolicyDocument, Provenance, baseline, load_policy
from policy_search.augment.autoalbument import convert_file
from policy_search.cells.errors import InputError
from policy_search.relaxed import Group, SearchResult, SearchSettings, export_policy, search_policy
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.operations import Emission
from policy_search.relaxed.target import TargetSettings, search_target
from policy_search.study.data import foreground_pairs
from policy_search.study.probe import Base
from policy_search.study.trivial import NAME as TRIVIAL
from policy_search.study.trivial import trivial_augment

PEER = {"autoalbument_searched": "searched", "autoalbument_emitted": "emitted"}  # row → reading of the same file
SOURCE, TARGET, POSED, EACH = "ours_source", "ours_target", "ours_target_pose", "ours_target_each"
OURS = (SOURCE, TARGET, POSED, EACH)
SIZED = "recognised_size_each"  # what another cue would bring; in no search yet
ROWS = (*BASELINES, TRIVIAL, *PEER, *OURS, SIZED)
_POSE, _EACH = "part_pose", "part_target_"  # of the source-mode policy, of one unseen type; no rows


@dataclass(frozen=True)
class Searches:
    """How ours are searched.

    Attributes:
        source, target: settings of the two modes.
        budget: CPU seconds that a row's searches may take together.
    """

    source: SearchSettings
    target: TargetSettings
    budget: float


@dataclass(frozen=True)
class Found:
    """A policy, and the CPU seconds of its search: 0 where none was needed, None where nobody wrote them down.

    Where `by_type` is given, every unseen type has its own policy and training; `document` is the mixture of all.
    """

    document: PolicyDocument
    search_cpu_s: float | None
    by_type: Mapping[str, PolicyDocument] | None = None

    @property
    def key(self) -> str:
        """Tells whether it has changed: the hashes of all its documents."""
        if self.by_type is None:
            return self.document.content_hash
        return " ".join(f"{name}:{document.content_hash}" for name, document in self.by_type.items())


def policy(
    row: str,
    culture: Culture,
    *,
    seed: int,
    searches: Searches,
    folder: Path,
    peer: Path | None,
    base: Callable[[], Base],
) -> Found | None:
    """The policy of a row; None where AutoAlbument's file is not there.

    Ours are searched once a seed and kept in `folder`; the search is repeated when its data or settings are others.

    Args:
        folder: of this culture's searched policies.
        peer: folder with NAME.json of AutoAlbument for every culture, and its facts in NAME.facts.json.
        base: gives the network that all policies of the seed start from.

    Raises:
        InputError: unknown row, a search that exceeds the budget.
        SearchDivergedError: see the searches.
    """
    if row in BASELINES:
        return Found(baseline(row), 0.0)
    if row == TRIVIAL:
        return Found(trivial_augment(), 0.0)
    if row in PEER:
        return _of_peer(row, culture, peer)
    if row in OURS:
        return _Shelf(culture, seed, searches, folder).get(row)
    if row == SIZED:
        return _of_sizes(culture, base())
    raise InputError(f"unknown policy {row!r}: expected one of {', '.join(ROWS)}")


def _of_peer(row: str, culture: Culture, folder: Path | None) -> Found | None:
    file = None if folder is None else folder / f"{culture.name}.json"
    if file is None or not file.is_file():
        return None
    document = convert_file(file, "searched" if PEER[row] == "searched" else "emitted").document
    facts = file.with_suffix(".facts.json")
    spent = float(json.loads(facts.read_text())["cpu_s"]) if facts.is_file() else None
    return Found(document.with_provenance(name=row), spent)


def _of_sizes(culture: Culture, base: Base) -> Found:
    """For every type a scaling to the size that the network recognises its cells at, or nothing."""
    started = time.process_time()
    fill = int(np.median(np.concatenate([sample.image.ravel() for sample in culture.study.train])))
    by_type = {}
    for name, images in culture.targets.items():
        size = recognised(base, images)
        emit = operations("scale")[0].emit
        scaled = A.Compose([emit(0.9 * size, 1.1 * size, Emission(fill))])
        by_type[name] = baseline("none") if size == 1 else PolicyDocument.from_compose(scaled)
    return Found(baseline("none"), round(time.process_time() - started, 2), by_type)


class _Shelf:
    """Searched policies of one culture and seed, on disk."""

    def __init__(self, culture: Culture, seed: int, searches: Searches, folder: Path) -> None:
        self.culture, self.seed, self.searches, self.folder = culture, seed, searches, folder

    def get(self, row: str) -> Found:
        """From the disk where it is up to date, else searched now."""
        if row == POSED:
            target, source, pose = self.get(TARGET), self.get(SOURCE), self._read(_POSE)
            assert pose is not None  # written with the source-mode policy
            spent = [found.search_cpu_s or 0.0 for found in (target, source)]
            return Found(_named(in_turn(target.document, pose.document), POSED, self.seed), sum(spent))
        if row == EACH:
            mixture = self.get(TARGET)
            parts = {name: self._read(_part(name)) for name in self.culture.targets}
            by_type = {name: part.document for name, part in parts.items() if part is not None}
            return Found(_named(mixture.document, EACH, self.seed), mixture.search_cpu_s, by_type)
        kept = self._read(row)
        if kept is not None:
            return kept
        started = time.process_time()
        if row == SOURCE:
            result = search_policy(
                foreground_pairs(self.culture.study.train),
                None,
                settings=self.searches.source,
                seed=self.seed,
                on_step=self._watch(started),
            )
            document = _exported(result, self.culture)
            self._write(_POSE, stage(document, pose_stage(result)), started)
        else:
            document = self._search_targets(started)
        self._write(row, document, started)
        return self.get(row)

    def _search_targets(self, started: float) -> PolicyDocument:
        settings, pairs = self.searches.target, foreground_pairs(self.culture.study.train)
        documents = {}
        for name, images in self.culture.targets.items():
            result = search_target(pairs, images, settings=settings, seed=self.seed, on_step=self._watch(started))
            documents[name] = _exported(result, self.culture)
            self._write(_part(name), documents[name], started)
        return one_of(documents)

    def _watch(self, started: float) -> Callable[[Any], None]:
        def check(_: Any) -> None:
            if time.process_time() - started > self.searches.budget:
                raise InputError(
                    f"{self.culture.name}, seed {self.seed}: the search needs more than --budget "
                    f"{self.searches.budget:.0f} CPU seconds. Lower --source-steps or --target-steps, or raise it."
                )

        return check

    def _settings(self, row: str) -> dict[str, Any]:
        settings = self.searches.target if row.startswith((TARGET, _EACH)) else self.searches.source
        return json.loads(settings.model_dump_json())  # type: ignore[no-any-return]

    def _file(self, row: str) -> Path:
        return self.folder / f"{row}-{self.seed}.json"

    def _write(self, row: str, document: PolicyDocument, started: float) -> None:
        study = self.culture.study
        extra = {
            "data": study.name, "fingerprint": study.fingerprint, "synthetic": study.synthetic,
            "search_cpu_s": round(time.process_time() - started, 2), "search_settings": self._settings(row),
        }  # fmt: skip
        _named(document, row, self.seed).with_provenance(**extra).save(self._file(row))

    def _read(self, row: str) -> Found | None:
        if not self._file(row).is_file():
            return None
        document = load_policy(self._file(row))
        known = document.provenance.model_dump()
        if known["fingerprint"] != self.culture.study.fingerprint or known["search_settings"] != self._settings(row):
            return None
        return Found(document, float(known["search_cpu_s"]))


def forget(row: str, folder: Path) -> None:
    """Remove the searched policies of a row, so that they are searched again."""
    parts = {SOURCE: (SOURCE, _POSE), TARGET: (TARGET, f"{_EACH}*")}.get(row, ())
    for part in parts:
        for file in folder.glob(f"{part}-*.json"):
            file.unlink()


def _part(cell_type: str) -> str:
    return f"{_EACH}{cell_type}"


def one_of(documents: Mapping[str, PolicyDocument]) -> PolicyDocument:
    """One policy for several types: an image meets the policy of one of them, all equally likely."""
    share = 1.0 / len(documents)
    branches = [A.Sequential(list(document.compose().transforms), p=share) for document in documents.values()]
    return PolicyDocument.from_compose(A.Compose([A.OneOf(branches, p=1.0)]))


def in_turn(*documents: PolicyDocument) -> PolicyDocument:
    """One policy after the other on the same image."""
    return PolicyDocument.from_compose(A.Compose([t for document in documents for t in document.compose().transforms]))


def stage(document: PolicyDocument, number: int) -> PolicyDocument:
    """One stage of every sub-policy of an exported policy."""
    first = document.compose().transforms[0]
    branches = list(first.transforms) if isinstance(first, A.OneOf) else [first]
    return PolicyDocument.from_compose(A.Compose([A.OneOf([b.transforms[number] for b in branches], p=1.0)]))


def pose_stage(result: SearchResult) -> int:
    """Which stage chooses from flips, rotations and translations.

    Raises:
        InputError: the plan has no stage for them alone.
    """
    plan = [tuple(entries) for entries in result.settings.plan]
    if (Group.POSE,) not in plan:
        raise InputError(f"{POSED} needs a stage of the group {Group.POSE} alone; the plan is {plan}")
    return plan.index((Group.POSE,))


def _exported(result: SearchResult, culture: Culture) -> PolicyDocument:
    """Searched on crops; an image gets as many holes per area, and light as steep per pixel."""
    train = culture.study.train
    area = sum(sample.image.shape[0] * sample.image.shape[1] for sample in train) / len(train)
    ratio = area / result.settings.crop**2
    return export_policy(result, holes=max(1, round(ratio)), extent=math.sqrt(ratio))


def _named(document: PolicyDocument, row: str, seed: int) -> PolicyDocument:
    return PolicyDocument(document.transform, Provenance(name=row, family="searched", seed=seed))
