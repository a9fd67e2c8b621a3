"""What is fuzzed: for each kind of file how it is damaged and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import annotations, imports, pictures, policies
from tests.fuzz.mutations import damaged_bytes, json_files


class Target(NamedTuple):
    """One kind of file.

    Attributes:
        files: damaged ones: name and bytes.
        check: raises on anything but a result or one of the project's own errors.
    """

    files: st.SearchStrategy[tuple[str, bytes]]
    check: Callable[[Path], object]


def _named(name: str, data: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.tuples(st.just(name), data)


TARGETS = {
    "annotations": Target(_named("cells.json", json_files(annotations.CORPUS)), annotations.check_annotations),
    "imports": Target(_named("coco.json", json_files(annotations.CORPUS)), imports.check_coco),
    "labels": Target(
        st.one_of(*(_named(name, damaged_bytes([data])) for name, data in imports.CORPUS.items())),
        imports.check_labels,
    ),
    "policies": Target(_named("policy.json", json_files([*policies.OURS, *policies.OTHERS])), policies.check_policy),
    "pictures": Target(
        st.one_of(*(_named(name, damaged_bytes([data])) for name, data in pictures.CORPUS.items())),
        pictures.check_picture,
    ),
    "conversions": Target(_named("foreign.json", json_files(policies.FOREIGN)), policies.check_conversion),
}
# The same examples each time; scripts/fuzz.py draws others.
FIXED = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def run(target: Target, folder: Path, how: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Check many files, each written into the folder; the one that failed is the last, shrunk."""

    @how
    @given(target.files)
    def holds(file: tuple[str, bytes]) -> None:
        name, data = file
        path = folder / name
        path.write_bytes(data)
        target.check(path)

    holds()
