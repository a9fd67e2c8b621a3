"""Fetching LIVECell: annotations, the images that they name, and models, as far as they are not there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from policy_search.cells.download import download, require_space, resumable, same_content
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.fetch_images import ImageFetch
from policy_search.cells.fetch_lock import sole_fetch
from policy_search.cells.fetch_parts import Part, annotation_part, base_address, model_part
from policy_search.cells.fetch_watch import Unwatched, Watch
from policy_search.cells.fetched import FILE, LICENCE, Fetched, now, read_fetched
from policy_search.cells.files import require_writable_folder
from policy_search.cells.livecell import home
from policy_search.cells.remote import Patience, RemoteFile, Server
from policy_search.cells.remote_errors import Unreachable
from policy_search.cells.types import CellType


@dataclass
class Result:
    """What a fetch did.

    Attributes:
        folder: that holds `annotations` and `images` now.
        new: files put into place.
        kept: files that were there and whole.
        asked: requests sent.
        models: paths of the models that were asked for.
    """

    folder: Path
    new: int = 0
    kept: int = 0
    asked: int = 0
    models: list[Path] = field(default_factory=list)


def fetch_livecell(
    types: Sequence[CellType],
    splits: Sequence[str],
    root: Path,
    *,
    models: bool = False,
    patience: Patience | None = None,
    watch: Watch | None = None,
) -> Result:
    """Bring what is missing, damaged or outdated of some types and splits into a folder.

    Whatever stops it, no half file lies under a final name, and the same call goes on where it was.

    Args:
        types: of cells.
        splits: of train, val, test.
        root: LIVECell's folder; made if it is not there.
        models: fetch the published model of each type, too.
        patience: time-outs and tries.
        watch: told of the progress.

    Raises:
        DataError: the server cannot be reached, lacks a file, or what comes is damaged.
        InputError: the folder cannot be written, or has not enough space.
    """
    watch = watch or Unwatched()
    folder = require_writable_folder(home(root), "--root")
    with sole_fetch(folder, watch.note), Server(base_address(), patience, watch.note) as server:
        run = _Fetch(server, folder, watch)
        try:
            run.everything(types, splits, models)
        except Unreachable as error:
            names = ",".join(t.name for t in types)
            raise DataError(
                f"{error}. It is looked for in {folder}. With a network, or through a proxy named by HTTPS_PROXY, the "
                f"same command goes on; without one, try the built-in synthetic culture: --data demo/{names}"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot write {error.filename or folder}: {error.strerror or error}. Make room or choose another "
                "folder with --root; what has come is kept."
            ) from error
        run.result.asked = server.asked
        return run.result


class _Fetch:
    """One fetch into one folder, which nobody else fetches into."""

    def __init__(self, server: Server, folder: Path, watch: Watch) -> None:
        self.server, self.folder, self.watch = server, folder, watch
        self.result = Result(folder)
        self.images_of: dict[str, set[str]] = {}  # annotation file → the images that it names
        try:
            self.record = read_fetched(folder)
        except DataError:
            watch.note(f"{folder / FILE} is damaged: what is there is compared with the server's files")
            self.record = Fetched(folder)

    def everything(self, types: Sequence[CellType], splits: Sequence[str], models: bool) -> None:
        """See `fetch_livecell`."""
        labels = [annotation_part(kind, split) for kind in types for split in splits]
        weights = [model_part(kind) for kind in types] if models else []
        files = {part: self.server.describe(part.path) for part in [*labels, *weights]}
        missing = {part: file for part, file in files.items() if not self._there(part, file)}
        images = ImageFetch(self.server, self.folder, self.record, self.watch)
        with closing(images):
            # The archive's directory is read, and refused if need be, before anything is written.
            first = images.at_least(types, splits) if any(part in missing for part in labels) else 0
            self._require_space(missing, first)
            self._show_licence()
            try:
                self._download("annotations", {p: f for p, f in missing.items() if p in labels})
                names = set[str]().union(*(self._images_of(part) for part in labels))
                models_missing = {p: f for p, f in missing.items() if p in weights}
                images.fetch(names, lambda size: self._require_space(models_missing, size))
                self._download("models", models_missing)
            finally:
                self.record.save()
        self.result.new += len(images.written)
        self.result.kept += len(images.whole - images.written)
        self.result.models = [self.folder / part.path for part in weights]

    def _there(self, part: Part, file: RemoteFile) -> bool:
        """Whether a file is there in the server's version. One that came in another way and is the same is taken up."""
        path, entry = self.folder / part.path, self.record.files.get(part.path)
        if entry is not None:
            same = entry.etag == file.etag and entry.size == file.size and self.record.whole(part.path)
        else:
            same = path.is_file() and path.stat().st_size == file.size and self._passes(part, file, path)
            if same:
                self.record.add(part.path, file.etag, file.url)
        self.result.kept += same
        return same

    def _passes(self, part: Part, file: RemoteFile, path: Path) -> bool:
        try:
            same_content(file, path)
            self.images_of[part.path] = part.check(path)
        except DataError:
            return False
        return True

    def _images_of(self, part: Part) -> set[str]:
        if part.path not in self.images_of:
            self.images_of[part.path] = part.check(self.folder / part.path)
        return self.images_of[part.path]

    def _download(self, title: str, files: Mapping[Part, RemoteFile]) -> None:
        if not files:
            return
        done = sum(resumable(file, self.folder / part.path) for part, file in files.items())
        self.watch.stage(f"{title}, {len(files)} files", sum(file.size for file in files.values()), done)
        for part, file in files.items():
            target = self.folder / part.path
            if target.is_file() and target.suffix == ".json":
                # Somebody may have corrected labels in it.
                kept = target.with_name(target.name + ".old")
                shutil.copy2(target, kept)
                self.watch.note(
                    f"{target} is not what the server has: fetched again, the old one is kept as {kept.name}"
                )

            def check(path: Path, part: Part = part) -> None:
                self.images_of[part.path] = part.check(path)

            file = download(self.server, file, target, check, self.watch.advance)
            self.record.add(part.path, file.etag, file.url)
            self.result.new += 1

    def _require_space(self, files: Mapping[Part, RemoteFile], images: int) -> None:
        """Raises InputError unless these files and so many bytes of images fit on the disk."""
        missing = sum(file.size - resumable(file, self.folder / part.path) for part, file in files.items()) + images
        require_space(self.folder, missing)

    def _show_licence(self) -> None:
        if not self.record.licence:
            self.watch.note(f"{LICENCE['text']} {LICENCE['link']}")
            self.record.licence = {**LICENCE, "shown": now()}
