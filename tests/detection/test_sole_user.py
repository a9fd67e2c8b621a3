"""Two processes cannot train in one folder; a dead one holds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detection.sole_user import sole_user
from policy_search.cells.errors import InputError

HOLD = """
import pathlib, sys, time
from detection.sole_user import sole_user
with sole_user(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=r"another process trains in .*choose another --out"), sole_user(tmp_path):
        pass
    other.kill()
    other.wait()
    with sole_user(tmp_path):
        pass
    with sole_user(tmp_path):  # and is let go of at the end
        pass
