"""A small LIVECell as it lies on its server: images in one zip, annotation files, models."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from policy_search.cells.remote import Patience
from tests.cells.flaky_server import FlakyServer, serving
from tests.conftest import write_livecell

QUICK = Patience(connect=1.0, stall=0.3, tries=4, first_tries=2, wait=0.01, longest=0.02)
PLAN = {"A172": {"train": 3, "val": 2, "test": 2}, "BT474": {"train": 2, "val": 1, "test": 1}}
A172_TRAIN = "annotations/LIVECell_single_cells/a172/train.json"
A172_MODEL = "models/Anchor_based/A172/LIVECell_anchor_based_a172_model.pth"


def zipped(entries: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    """A zip of these entries, deflated; `change` may alter each entry's header."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change:
                change(info)
            archive.writestr(info, content)
    return stream.getvalue()


def tree(root: Path, suffix: str = "") -> dict[str, bytes]:
    """Path below the root → content, of the files that end so; those that a fetch keeps its books in are left out."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name.endswith(suffix) and path.name not in ("fetched.json", ".fetch.lock")
    }


class Mirror:
    """What the server holds.

    Attributes:
        truth: path below LIVECell's folder → content, as it should be on the disk in the end.
        images: those of them that are images.
        server: serves them.
    """

    def __init__(self, truth: dict[str, bytes], server: FlakyServer) -> None:
        self.truth, self.server = truth, server
        self.images = {name: content for name, content in truth.items() if name.endswith(".tif")}

    def of(self, kind: str, *splits: str) -> dict[str, bytes]:
        """What a fetch of a type's splits should leave on the disk."""
        wells = {"train": "_Phase_A", "val": "_Phase_B", "test": "_Phase_C"}
        return {
            name: content
            for name, content in self.truth.items()
            for split in splits
            if name == f"annotations/LIVECell_single_cells/{kind.lower()}/{split}.json"
            or f"/{kind}{wells[split]}" in name
        }


@pytest.fixture(scope="session")
def livecell_files(tmp_path_factory) -> dict[str, bytes]:
    """A small LIVECell on the disk, flat as the real archive."""
    return tree(write_livecell(tmp_path_factory.mktemp("truth"), PLAN, flat=True, cells=4, size=(48, 56)))


@pytest.fixture
def mirror(livecell_files, monkeypatch) -> Mirror:
    """A running server with it, which LIVECELL_URL names."""
    images = {name: content for name, content in livecell_files.items() if name.endswith(".tif")}
    files = {name: content for name, content in livecell_files.items() if name.endswith(".json")}
    files["images.zip"] = zipped(images)
    files[A172_MODEL] = zipped({"archive/data.pkl": np.random.default_rng(0).bytes(20_000)})
    # So small an archive would be read whole while its directory is looked for.
    monkeypatch.setattr("policy_search.cells.archive.TAIL", 600)
    with serving(files) as server:
        monkeypatch.setenv("LIVECELL_URL", server.url)
        yield Mirror({**livecell_files, A172_MODEL: files[A172_MODEL]}, server)
