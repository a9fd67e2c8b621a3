"""A file that is read by way of a copy."""

from __future__ import annotations

import json

import pytest

from policy_search.cells.annotations import source
from tests.cells.annotations.odd import content
from tests.cells.annotations.reading import forget


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A file that counts as large, in an empty world; its copy comes in three parts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "SMALL", 0)
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(content()))
    forget(monkeypatch)
    return path
