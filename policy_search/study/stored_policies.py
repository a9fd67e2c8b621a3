"""Policies inside the storage: compressed in a system attribute of their trial, so that every machine can read them."""

from __future__ import annotations

import base64
import json
import zlib
from functools import lru_cache
from typing import Any

from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument

KEY = "policy_search:policy"  # a system attribute: the dashboard would print a user attribute


def packed_policy(document: PolicyDocument) -> dict[str, str]:
    """The system attribute that keeps a trial's policy. A searched one of 240 kB takes 10 kB."""
    return {KEY: base64.b64encode(zlib.compress(json.dumps(document.to_dict()).encode(), 6)).decode("ascii")}


def has_policy(trial: FrozenTrial) -> bool:
    """Whether a trial got as far as having a policy."""
    return KEY in trial.system_attrs


def policy_content(trial: FrozenTrial) -> dict[str, Any]:
    """The policy of a trial as the content of a file, not checked."""
    return _unpacked(trial.system_attrs[KEY])


def get_policy(trial: FrozenTrial) -> PolicyDocument:
    """The policy of a trial, checked like every policy that is read."""
    return _checked(trial.system_attrs[KEY], f"the policy of trial {trial.number}")


def _unpacked(packed: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return content


@lru_cache(maxsize=2)  # many trials in a row are built over the best searched policy, and checking it costs the most
def _checked(packed: str, source: str) -> PolicyDocument:
    return PolicyDocument.from_dict(_unpacked(packed), source=source)
