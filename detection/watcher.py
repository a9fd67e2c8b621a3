"""How a training speaks to whoever started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Watcher(NamedTuple):
    """Attributes:
    step: called after every iteration with (iterations done, iterations in all, loss).
    say: called with a sentence.
    validated: called after every validation with (iterations done, AP50 in 0 … 1, whether it is the best so far).
    """

    step: Callable[[int, int, float], None] = lambda *_: None
    say: Callable[[str], None] = lambda _: None
    validated: Callable[[int, float, bool], None] = lambda *_: None
