"""Install detectron2 where none is importable: a hash-pinned wheel, repacked without its compiled and stray parts.

Run: python scripts/install_detectron2.py

detectron2 has no release of its own on the package index. `sal-detectron2` 0.7.2 there is upstream commit a59f0563
(2024-04-17) as a wheel. It carries a compiled `_C` for another Python (never to be loaded: nobody can read it) and a
top-level `tools` package that would shadow other projects' `tools`. Both are left out; everything else is unchanged.
A detectron2 that is already importable (built from source on a GPU machine, say) is left alone.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "sal-detectron2==0.7.2 --hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561\n"
# The wheel is tagged cp310, but its Python files run unchanged on 3.11.
FOREIGN_TAGS = ["--python-version", "3.10", "--implementation", "cp", "--abi", "none", "--platform", "any"]


def keep(name: str) -> bool:
    """Whether a member of the wheel goes into the repacked one."""
    return not (name.startswith("tools/") or name.endswith((".so", ".pyd")))


def repack(source: Path, folder: Path) -> Path:
    """Write `source` without the dropped members, with a fresh RECORD and a py3-none-any tag; return the new wheel."""
    target = folder / "sal_detectron2-0.7.2-py3-none-any.whl"
    record: list[str] = []
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        record_name = next(n for n in old.namelist() if n.endswith(".dist-info/RECORD"))
        for name in old.namelist():
            if name.endswith("/") or name == record_name or not keep(name):
                continue
            data = old.read(name)
            if name.endswith(".dist-info/WHEEL"):
                lines = [
                    line for line in data.decode().splitlines() if not line.startswith(("Tag:", "Root-Is-Purelib"))
                ]
                data = ("\n".join([*lines, "Root-Is-Purelib: true", "Tag: py3-none-any"]) + "\n").encode()
            elif name.endswith(".dist-info/top_level.txt"):
                data = b"detectron2\n"
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
            new.writestr(name, data)
        new.writestr(record_name, "\n".join([*record, f"{record_name},,"]) + "\n")
    return target


def main() -> None:
    if importlib.util.find_spec("detectron2") is not None:
        print("detectron2 is already importable: left as it is")
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "requirement.txt").write_text(REQUIREMENT)
        subprocess.run(
            [*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", *FOREIGN_TAGS, "--require-hashes",
             "--dest", str(folder / "wheel"), "-r", str(folder / "requirement.txt")],
            check=True,
        )  # fmt: skip
        (original,) = (folder / "wheel").glob("*.whl")
        repacked = repack(original, folder)
        subprocess.run([*pip, "install", "--quiet", "--no-deps", str(repacked)], check=True)
    print("detectron2 installed (sal-detectron2 0.7.2, without its binary)")


if __name__ == "__main__":
    main()
