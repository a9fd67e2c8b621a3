"""Reading a report's page as a browser would, and stand-ins whose figures are known."""

from __future__ import annotations

import base64
import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import albumentations as A

from policy_search.augment import PolicyDocument
from policy_search.study.data import StudyData
from policy_search.study.making import Learnt
from policy_search.study.objective import Report, Score
from policy_search.study.space import Knobs
from tests.study.rules import Rule

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find: tables as texts by their label, pictures, references, unclosed elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[bytes] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self._label = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "div" and values.get("aria-label"):
            self._label = str(values["aria-label"])
        if tag == "tr":
            self.tables.setdefault(self._label, []).append([])
        if tag in ("td", "th"):
            self.tables[self._label][-1].append("")
        if tag == "img":
            head, _, data = str(values["src"]).partition(",")
            assert head == "data:image/png;base64"
            assert values["alt"]
            self.images.append(base64.b64decode(data, validate=True))
        elif "src" in values or "href" in values:
            self.references.append(str(values.get("src") or values.get("href")))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[self._label][-1][-1] += data
        elif self._open and self._open[-1] != "style":
            self.words += data + " "

    def table(self, label: str) -> list[dict[str, str]]:
        head, *rows = self.tables[label]
        return [dict(zip(head, row, strict=True)) for row in rows]


class SearchedLast(Rule):
    """Learnt policies are better than naive ones, but searched ones are worse: winner and best searched one differ."""

    def score(self, document: PolicyDocument, *, seed: int, report: Report | None = None) -> Score:
        if document.provenance.family == "searched":
            report = None  # never given up
        found = super().score(document, seed=seed, report=report)
        luck = random.Random(f"{document.content_hash} {seed}").uniform(-0.004, 0.004)
        value = found.value + luck - 0.02 * (document.provenance.family == "searched")
        return Score((value,), {"one": value - 0.1, "other": value + 0.1})


def two_sub_policies(data: StudyData, knobs: Knobs, steps: int, seed: int) -> Learnt:
    """Stands in for the inner search: a policy in the form of a searched one, with ranges and weights known here."""

    def sub_policy(
        weight: float, turn: tuple[float, float], share: float, gate: float, gamma: tuple[float, float]
    ) -> Any:
        pose = A.OneOf([A.Affine(rotate=turn, p=share), A.HorizontalFlip(p=1 - share)], p=1.0)
        return A.Sequential([pose, A.OneOf([A.RandomGamma(gamma_limit=gamma, p=1.0)], p=gate)], p=weight)

    first = sub_policy(0.25, (-10.0, 20.0), 0.5, 0.4, (70.0, 110.0))
    second = sub_policy(0.75, (-5.0, 30.0), 0.2, 0.8, (90.0, 120.0))
    return Learnt(PolicyDocument.from_compose(A.Compose([A.OneOf([first, second], p=1.0)])))


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
