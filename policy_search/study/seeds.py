"""Seeds of scoring."""

from __future__ import annotations

import numpy as np


def probe_seed(seed: int, stream: int) -> int:
    """Stream 0 is the first round, where all trials share one seed; 1 … are the fresh seeds of the second."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
