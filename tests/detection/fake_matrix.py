"""`detect` whose matrix is real and whose trainings are not: `python -m tests.detection.fake_matrix matrix …`.

A pretraining writes a file, a search a policy, and a fine-tune one row with one image into its store. Each notes in
`$FAKE/calls` that it began (`+`) and ended (`-`). Files in the folder `$FAKE` say how they behave, by policy or
command: `sleep-flip` (seconds in it), `fail-flip` (exit code in it), `kill-flip` (kills itself that many times),
`stubborn-flip` (does not listen to SIGINT).
Two more are for the matrix: `slow-merge-all` (seconds before each merge), `full-all` (the main store cannot grow).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from detection.store import Result, RunKey, Store


# Imports stand where they are needed: this starts many times.
def folder() -> Path:
    return Path(os.environ["FAKE"])


def key_of(config: Any) -> RunKey:
    from detection.store import RunKey

    return RunKey("demo/A172", str(config.policy).replace("/", "_"), config.seed, "c0")


def known(config: Any, store: Store, seen: Any = None) -> list[Result]:
    key = key_of(config)
    return store.find(*key) if store.images(*key) else []


def configured(words: list[str]) -> Any:
    """Of a command, only what a key is made of; the rest of a configuration is not looked at."""
    config = SimpleNamespace(policy=words[words.index("--policy") + 1], seed=int(words[words.index("--seed") + 1]))
    config.model_copy = lambda update: SimpleNamespace(**update)
    return config


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def note(sign: str, name: str) -> None:
    with (folder() / "calls").open("a") as handle:
        handle.write(f"{sign} {name}\n")


def said(what: str, name: str) -> str:
    file = folder() / f"{what}-{name}"
    return file.read_text() if file.is_file() else ""


def train(command: str) -> None:
    out, seed = Path(option("--out")), option("--seed")
    out.mkdir(parents=True, exist_ok=True)
    name = option("--policy") if command == "finetune" else command
    full = f"{name} {seed}"
    try:  # whoever has read the note may interrupt at once
        note("+", full)
        print(f"{command} {full} on {os.environ['OMP_NUM_THREADS']} threads", flush=True)
        times = said("kill", name)
        if times:
            (folder() / f"kill-{name}").write_text(str(int(times) - 1) if int(times) > 1 else "")
            os.kill(os.getpid(), signal.SIGKILL)
        if said("stubborn", name):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(float(said("sleep", name) or 0))
    except KeyboardInterrupt:
        (out / "saved").write_text("")
        note("i", full)
        sys.exit(130)
    if code := said("fail", name):
        print("the reason, in the last line", flush=True)
        sys.exit(int(code))
    if command == "pretrain":
        (out / "model.pth").write_bytes(b"weights " + seed.encode())
    elif command == "search":
        from policy_search.augment import load_policy

        load_policy("flip").save(out / "policy.json")
    else:
        finetune(out, int(seed), name)
    note("-", full)


def finetune(out: Path, seed: int, policy: str) -> None:
    import numpy as np

    from detection.matches import ImageMatches
    from detection.store import Result, Store

    key = key_of(SimpleNamespace(policy=policy, seed=seed))
    row = Result(
        source=key.source, policy_hash=key.policy_hash, policy=policy, seed=seed, config_hash=key.config_hash,
        cell_type="BT474", seen=False, train_fingerprint="f0", test_fingerprint="f1", synthetic=True,
        date="2026-01-01T00:00:00+00:00", seconds=1.5, versions='{"torch": "2"}', ap=0.3, ap50=0.5, ap75=0.2, aps=None,
        apm=None, apl=None, ar=0.4, images=1, cells=2, detections=1,
    )  # fmt: skip
    image = ImageMatches("a.tif", "W0", 2, np.linspace(1, 0.5, 2000, dtype=np.float32), np.arange(2000) < 2)
    Store(option("--results")).put([row], {"BT474": [image]})
    for name in ("results.json", "config.json", "policy.json"):
        (out / name).write_text("{}")


@contextmanager
def faked() -> Iterator[None]:
    """Within, the matrix starts fakes, and takes from a command only what a key of theirs is made of."""
    from detection import cli_matrix
    from detection.matrices import ledger
    from detection.store import Store

    here = (sys.executable, "-m", "tests.detection.fake_matrix")
    # In place of the module that reads weights and images, which loads torch.
    reads = SimpleNamespace(known=known, run_key=lambda config, seen: key_of(config))
    merge = Store.merge

    def slow(self: Store, other: Path) -> int:
        if seconds := said("slow-merge", "all"):
            note("m", str(other))
            time.sleep(float(seconds))
        if said("full", "all"):
            connect = sqlite3.connect

            def full(*words: Any, **options: Any) -> sqlite3.Connection:
                connection = connect(*words, **options)
                if Path(words[0]) == self.path:
                    pages = connection.execute("PRAGMA page_count").fetchone()[0]
                    connection.execute(f"PRAGMA max_page_count = {pages}")
                return connection

            with patch.object(sqlite3, "connect", full):
                return merge(self, other)
        return merge(self, other)

    with (
        patch.object(ledger, "finetune_config", configured),
        patch.dict(sys.modules, {"detection.run_key": reads}),
        patch.dict(cli_matrix.PROGRAMS, {"detect": here, "policy-search": here}),
        patch.object(Store, "merge", slow),
    ):
        yield


def main() -> None:
    if sys.argv[1] in ("pretrain", "search", "finetune"):
        train(sys.argv[1])
        return
    from detection import cli

    sys.argv[0] = "detect"
    with faked():
        cli.main()


if __name__ == "__main__":
    main()
