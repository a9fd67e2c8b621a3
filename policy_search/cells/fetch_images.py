"""The images that are wanted, out of LIVECell's archive into their folders: as few requests as neighbours allow."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from policy_search.cells.archive import Archive, open_local, open_remote, place_of
from policy_search.cells.download import TRIES, download, require_space
from policy_search.cells.errors import DataError
from policy_search.cells.fetch_parts import IMAGES
from policy_search.cells.fetch_watch import Watch, readable
from policy_search.cells.fetched import Fetched
from policy_search.cells.files import replacing
from policy_search.cells.livecell import forget_images, image_index
from policy_search.cells.remote import RemoteFile, Server
from policy_search.cells.remote_errors import Changed, NoRanges
from policy_search.cells.types import CellType, find_cell_type

SAVED_EVERY = 5.0  # seconds between two states of the record on the disk


class ImageFetch:
    """Brings images into a folder. `images.zip`, where it lies there, is read in place of the server's.

    Attributes:
        written: file names of the images put into place.
        whole: file names of all that are there as they should be.
    """

    def __init__(self, server: Server, folder: Path, record: Fetched, watch: Watch) -> None:
        self.written: set[str] = set()
        self.whole: set[str] = set()
        self._server, self._folder, self._record, self._watch = server, folder, record, watch
        self._archive: Archive | None = None
        self._remote: RemoteFile | None = None
        self._look_again()

    def close(self) -> None:
        """Let go of the archive."""
        if self._archive is not None:
            self._archive.close()
        self._archive = None

    def at_least(self, types: Sequence[CellType], splits: Sequence[str]) -> int:
        """Bytes that the images of some types and splits need at least, before the annotations say which they are.

        Train and val lie in one folder: of one of them alone nothing is known.
        """
        folders = {
            "livecell_test_images": "test" in splits,
            "livecell_train_val_images": {"train", "val"} <= set(splits),
        }
        needed = 0
        for name, entry in self._open().images.items():
            known = find_cell_type(name.partition("_Phase_")[0])
            counted = any(folders.get(part, False) for part in place_of(entry).parts)
            needed += entry.file_size if known in types and counted and name not in self._there else 0
        return needed

    def fetch(self, names: set[str], require: Callable[[int], None]) -> None:
        """Put these images into place, each in one step, as far as they are not there and whole.

        Args:
            names: file names.
            require: raises InputError when so many bytes of images do not fit on the disk.

        Raises:
            DataError: the archive lacks one, or keeps sending it damaged.
        """
        self.whole = {name for name in names if self._as_recorded(name)}
        trouble = ""
        for _ in range(TRIES):
            if self.whole == names:
                return
            try:
                damaged = self._fetch(names, require)
                trouble = f"images in it arrive damaged, such as {min(damaged, default='')}"
            except Changed:
                # What came from the old version is compared with the new one.
                self.whole, self._remote = set(), None
                trouble = "it changes on the server while it is read"
            except NoRanges:
                self._whole_archive()
                trouble = "the server sends parts of it only now and then"
            self.close()  # a second try needs its bytes anew
            self._look_again()
        if self.whole != names:
            raise DataError(f"{self._server.base}{IMAGES}: {trouble}; try again later")

    def _fetch(self, names: set[str], require: Callable[[int], None]) -> list[str]:
        """One try. Adds what is in place to `whole`; returns what arrived damaged."""
        archive = self._open()
        lacking = sorted(names - archive.images.keys())
        if lacking:
            raise DataError(
                f"{archive.name} lacks {len(lacking)} of the {len(names)} images that the annotations name, such as "
                f"{lacking[0]}: it is not the archive that belongs to them"
            )
        self.whole |= {name for name in names - self.whole if self._same(name, archive.images[name])}
        pending = [archive.images[name] for name in names - self.whole]
        require(sum(entry.file_size for entry in pending))
        self._remove_scratch(pending)
        self._watch.stage(f"images, {len(pending)} files", archive.length(pending))
        damaged, saved = [], time.monotonic()
        for entry, content in archive.read(pending, self._watch.advance):
            name = place_of(entry).name
            if content is None:
                damaged.append(name)
                continue
            target = self._target(entry)
            with replacing(target, option="--root") as scratch:
                scratch.write_bytes(content)
            self._add(target, entry)
            self.whole.add(name)
            self.written.add(name)
            if time.monotonic() - saved > SAVED_EVERY:
                self._record.save()
                saved = time.monotonic()
        return damaged

    def _open(self) -> Archive:
        """The archive, its directory read.

        Raises:
            DataError: see `open_remote`, or it changes all the time.
        """
        for _ in range(TRIES):
            if self._archive is not None:
                return self._archive
            local = self._folder / IMAGES
            try:
                if local.is_file():
                    self._archive = open_local(local)
                else:
                    self._remote = self._remote or self._server.describe(IMAGES)
                    self._archive = open_remote(self._server, self._remote)
            except Changed:
                self._remote = None
            except NoRanges:
                self._whole_archive()
        if self._archive is not None:
            return self._archive
        raise DataError(f"{self._server.base}{IMAGES} changes on the server while it is read; try again later")

    def _whole_archive(self) -> None:
        """Fetch all images because the server sends no parts; the archive stays for other types."""
        file, target = self._server.describe(IMAGES), self._folder / IMAGES
        require_space(self._folder, file.size)
        self._watch.note(
            f"the server sends no parts of a file: {IMAGES} is fetched whole, {readable(file.size)}. It stays in "
            f"{self._folder}, where other types are taken from it without a download; remove it if you need the room"
        )
        self._watch.stage(IMAGES, file.size)
        file = download(self._server, file, target, lambda path: open_local(path).close(), self._watch.advance)
        self._record.add(IMAGES, file.etag, file.url)

    def _as_recorded(self, name: str) -> bool:
        """Whether an image is as it was fetched, and from the version of the archive that the server has now."""
        key = self._recorded.get(name)
        if key is None or not self._record.whole(key):
            return False
        if (self._folder / IMAGES).is_file():
            return True
        self._remote = self._remote or self._server.describe(IMAGES)
        return self._record.files[key].etag == self._remote.etag

    def _same(self, name: str, entry: zipfile.ZipInfo) -> bool:
        """Whether an image lies there that is the archive's, wherever it came from. It is recorded."""
        path = self._there.get(name)
        if path is None or path.stat().st_size != entry.file_size or zlib.crc32(path.read_bytes()) != entry.CRC:
            return False
        self._add(path, entry)
        return True

    def _target(self, entry: zipfile.ZipInfo) -> Path:
        """Where an image goes: where a damaged one lies, since the reader takes the first that it finds."""
        place = place_of(entry)
        return self._there.get(place.name, self._folder / place)

    def _add(self, path: Path, entry: zipfile.ZipInfo) -> None:
        etag = self._remote.etag if self._remote else ""
        url = f"{self._server.base}{IMAGES}#{entry.filename}"
        self._record.add(path.relative_to(self._folder).as_posix(), etag, url)

    def _look_again(self) -> None:
        """Which images are there now. Whoever reads them in this process afterwards sees the new ones, too."""
        forget_images()
        self._there = image_index(self._folder / "images")
        self._recorded = {Path(name).name: name for name in self._record.files if name.startswith("images/")}

    def _remove_scratch(self, pending: Sequence[zipfile.ZipInfo]) -> None:
        """What a killed fetch left half written."""
        targets = [self._target(entry) for entry in pending]
        names = {target.name for target in targets}
        for folder in {target.parent for target in targets}:
            for scratch in folder.glob(".*.*.*"):
                if scratch.name[1:].rsplit(".", 2)[0] in names:
                    scratch.unlink()
