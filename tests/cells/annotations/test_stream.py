"""A file in pieces: wherever it is cut, and whatever is wrong with it, the verdict is the standard library's."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy_search.cells import DataError
from policy_search.cells.annotations import stream
from tests.cells.annotations.odd import content, text


def test_wherever_the_window_ends(monkeypatch):
    data = json.dumps(content(), ensure_ascii=False).encode("utf-8", "surrogatepass")
    whole = text(list(stream.pieces(io.BytesIO(data).read, Path("x.json"))))
    for chunk in range(1, 40):
        monkeypatch.setattr(stream, "CHUNK", chunk)
        assert text(list(stream.pieces(io.BytesIO(data).read, Path("x.json")))) == whole


_GOOD = json.dumps({"images": [], "x": [1e5, -0.5], "annotations": [{"a": '\\"é', "b": [True, None, {}]}, {}]})


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(_GOOD)), st.sampled_from(["", *'{}[],:"\\0-. eE+/tNu\n\x00\u00a0']), st.integers(0, 3))
@example(len(_GOOD), "", 0)
@example(3, "", len(_GOOD))
@example(len(_GOOD), "}", 0)
def test_what_json_refuses_is_refused(at, inserted, removed):
    """A character put in or some taken out: the same verdict as the standard library's, the same values."""
    data = (_GOOD[:at] + inserted + _GOOD[at + removed :]).encode()

    def pieces():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "CHUNK", random.Random(at).choice([5, 24, 4096]))
            return list(stream.pieces(io.BytesIO(data).read, Path("x.json")))

    try:
        expected = json.loads(data)
        assert isinstance(expected["images"], (list, dict))
        for key in ("images", "annotations"):
            part = expected.get(key, [])
            expected[key] = list(part.values()) if isinstance(part, dict) else part
            assert all(isinstance(entry, dict) for entry in expected[key])
    except (ValueError, KeyError, TypeError, AssertionError):
        with pytest.raises(DataError, match=r"x\.json"):
            pieces()
        return
    found: dict = {"images": [], "annotations": []}
    for key, value in pieces():
        if key in ("images", "annotations"):
            found[key].append(value)
        else:
            found[key] = value
    assert found == expected
