"""The policies that experiments/quality.py compares: naive, random, AutoAlbument's converted, and ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_data import Culture

from policy_search.augment import BASELINES, PolicyDocument, Provenance, baseline, load_policy
from policy_search.augment.autoalbument import convert_file
from policy_search.augment.chains import one_of
from policy_search.cells.errors import InputError
from policy_search.config import SearchConfig
from policy_search.relaxed import SearchResult, SearchSettings, export_policy, search_policy
from policy_search.relaxed.sized import resized, with_sizes
from policy_search.relaxed.target import TargetSettings, search_target
from policy_search.study.data import foreground_pairs
from policy_search.study.sizes import ask, train_networks
from policy_search.study.trivial import NAME as TRIVIAL
from policy_search.study.trivial import trivial_augment

PEER = {"autoalbument_searched": "searched", "autoalbument_emitted": "emitted"}  # row → reading of the same file
SOURCE, TARGET, EACH, SIZED = "ours_source", "ours_target", "ours_target_each", "ours_size_each"
OURS = (SOURCE, TARGET, EACH, SIZED)
FROM_TARGET = (TARGET, EACH, SIZED)  # made of one and the same searches
ROWS = (*BASELINES, TRIVIAL, *PEER, *OURS)
_PART = "part_target_"  # of one unseen type; no row


@dataclass(frozen=True)
class Searches:
    """How ours are searched.

    Attributes:
        source, target: settings of the two modes.
        budget: CPU seconds that a row's searches may take together.
        recognise_steps: training of the networks that recognise sizes.
    """

    source: SearchSettings
    target: TargetSettings
    budget: float
    recognise_steps: int = SearchConfig.model_fields["recognise_steps"].default


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
) -> Found | None:
    """The policy of a row; None where AutoAlbument's file is not there.

    Ours are searched once a seed and kept in `folder`; the search is repeated when its data or settings are others.

    Args:
        folder: of this culture's searched policies.
        peer: folder with NAME.json of AutoAlbument for every culture, and its facts in NAME.facts.json.

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
    raise InputError(f"unknown policy {row!r}: expected one of {', '.join(ROWS)}")


def _of_peer(row: str, culture: Culture, folder: Path | None) -> Found | None:
    file = None if folder is None else folder / f"{culture.name}.json"
    if file is None or not file.is_file():
        return None
    document = convert_file(file, "searched" if PEER[row] == "searched" else "emitted").document
    facts = file.with_suffix(".facts.json")
    spent = float(json.loads(facts.read_text())["cpu_s"]) if facts.is_file() else None
    return Found(document.with_provenance(name=row), spent)


class _Shelf:
    """Searched policies of one culture and seed, on disk."""

    def __init__(self, culture: Culture, seed: int, searches: Searches, folder: Path) -> None:
        self.culture, self.seed, self.searches, self.folder = culture, seed, searches, folder

    def get(self, row: str) -> Found:
        """From the disk where it is up to date, else searched now."""
        if row in (EACH, SIZED):
            mixture = self.get(TARGET)
            parts = {name: self._document(_PART + name) for name in self.culture.targets}
            if row == EACH:
                by_type, spent = parts, mixture.search_cpu_s
            else:
                facts = {name: part.provenance.model_dump() for name, part in parts.items()}
                by_type = {name: _size_alone(one["size"], one["fill"]) for name, one in facts.items()}
                spent = next(iter(facts.values()))["recognise_cpu_s"]
            return Found(_named(mixture.document, row, self.seed), spent, by_type)
        if not self._is_fresh(row):
            started = time.process_time()
            self._write(row, self._search_source(started) if row == SOURCE else self._search_targets(started), started)
        document = self._document(row)
        return Found(document, float(document.provenance.model_dump()["search_cpu_s"]))

    def _search_source(self, started: float) -> PolicyDocument:
        pairs, settings = foreground_pairs(self.culture.study.train), self.searches.source
        result = search_policy(pairs, None, settings=settings, seed=self.seed, on_step=self._watch(started))
        return _exported(result, self.culture)

    def _search_targets(self, started: float) -> PolicyDocument:
        """As `policy-search search --target TYPE` does it, one type after another; the networks are trained once."""
        train, settings = self.culture.study.train, self.searches.target
        networks = train_networks(train, seed=self.seed, steps=self.searches.recognise_steps)
        found = ask(networks, [sample.image for sample in train], self.culture.targets)
        sizes = {name: one.size for name, one in found.by_target.items()}
        recognised_at = round(time.process_time() - started, 2)
        documents = {}
        for name, images in self.culture.targets.items():
            pairs = resized(foreground_pairs(train), (sizes[name],))
            result = search_target(pairs, images, settings=settings, seed=self.seed, on_step=self._watch(started))
            fill = result.statistics.median
            documents[name] = with_sizes(_exported(result, self.culture), (sizes[name],), fill=fill)
            facts = {"size": sizes[name], "fill": fill, "recognise_cpu_s": recognised_at}
            self._write(_PART + name, documents[name], started, facts)
        return one_of(list(documents.values()))

    def _watch(self, started: float) -> Callable[[Any], None]:
        def check(_: Any) -> None:
            if time.process_time() - started > self.searches.budget:
                raise InputError(
                    f"{self.culture.name}, seed {self.seed}: the search needs more than --budget "
                    f"{self.searches.budget:.0f} CPU seconds. Lower --source-steps or --target-steps, or raise it."
                )

        return check

    def _settings(self, row: str) -> dict[str, Any]:
        if row == SOURCE:
            return self.searches.source.model_dump(mode="json")
        return {**self.searches.target.model_dump(mode="json"), "recognise_steps": self.searches.recognise_steps}

    def _file(self, row: str) -> Path:
        return self.folder / f"{row}-{self.seed}.json"

    def _write(
        self, row: str, document: PolicyDocument, started: float, facts: Mapping[str, Any] | None = None
    ) -> None:
        study = self.culture.study
        extra = {
            "data": study.name, "fingerprint": study.fingerprint, "synthetic": study.synthetic,
            "search_cpu_s": round(time.process_time() - started, 2), "search_settings": self._settings(row),
        }  # fmt: skip
        _named(document, row, self.seed).with_provenance(**extra, **(facts or {})).save(self._file(row))

    def _document(self, row: str) -> PolicyDocument:
        return load_policy(self._file(row))

    def _is_fresh(self, row: str) -> bool:
        if not self._file(row).is_file():
            return False
        known = self._document(row).provenance.model_dump()
        return bool(
            known["fingerprint"] == self.culture.study.fingerprint and known["search_settings"] == self._settings(row)
        )


def _size_alone(size: float, fill: int) -> PolicyDocument:
    """Flip and scaling, without what was matched."""
    return with_sizes(baseline("none"), (size,), fill=fill, share=0.0)


def forget(row: str, folder: Path) -> None:
    """Remove the searched policies of a row, so that they are searched again."""
    parts = {SOURCE: (SOURCE,), TARGET: (TARGET, f"{_PART}*")}.get(row, ())
    for part in parts:
        for file in folder.glob(f"{part}-*.json"):
            file.unlink()


def _exported(result: SearchResult, culture: Culture) -> PolicyDocument:
    return export_policy(result, images=[sample.image for sample in culture.study.train])


def _named(document: PolicyDocument, row: str, seed: int) -> PolicyDocument:
    return PolicyDocument(document.transform, Provenance(name=row, family="searched", seed=seed))
