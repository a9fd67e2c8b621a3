"""Pictures that a user names on the command line: files, folders and patterns, and an output name for each."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


class Named(NamedTuple):
    """An image file and the name, unique in its list, under which its results are stored."""

    path: Path
    name: str


def pictures(wanted: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Files behind what was typed, each once, in order; and a sentence for everything that names none.

    A folder stands for the images directly in it, a pattern (`*`, `?`, `**`) for the images that match it.
    """
    found: dict[Path, Path] = {}
    bad = []
    for text in wanted:
        path = Path(text).expanduser()
        if path.is_dir():
            files = _images(path.iterdir())
            if not files:
                bad.append(f"{text} holds no image ({', '.join(SUFFIXES)})")
        elif path.exists():
            files = [path]
        elif glob.has_magic(text):
            files = _images(Path(match) for match in glob.glob(str(path), recursive=True))
            if not files:
                bad.append(f"no image matches {text}")
        else:
            files = []
            bad.append(f"{text} does not exist")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), bad


def _images(paths: Iterable[Path]) -> list[Path]:
    # Names that begin with a dot are other programs' notes (._x.tif of macOS), never pictures.
    kept = (p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(kept)


def named(paths: Sequence[Path], suffix: str = "") -> list[Named]:
    """A name for each file, with `suffix` at its end: its own without file suffix, with as many of its folders before
    it, and its file suffix behind it, as it takes to differ from the others on any file system."""
    parts = [path.resolve().parts for path in paths]
    depth = max(map(len, parts), default=0)
    choices = [
        [_name(p, folders, suffix) for folders in range(depth) for suffix in (False, True)] for p in parts
    ]  # short names first
    for _ in range(2 * depth):
        now = [own[0].lower() for own in choices]
        doubled = {name for name in now if now.count(name) > 1}
        if not doubled:
            break
        choices = [own[1:] if own[0].lower() in doubled and len(own) > 1 else own for own in choices]
    names: list[str] = []
    for own in choices:
        name, number = own[0], 2
        while name.lower() in {n.lower() for n in names}:
            name, number = f"{own[0]}_{number}", number + 1
        names.append(name)
    return [Named(path, name + suffix) for path, name in zip(paths, names, strict=True)]


def _name(parts: tuple[str, ...], folders: int, suffix: bool) -> str:
    file = Path(parts[-1])
    before = [part.strip("/\\:") for part in parts[max(0, len(parts) - 1 - folders) : -1]]
    return "_".join([*filter(None, before), file.stem, *([file.suffix[1:]] if suffix else [])])
