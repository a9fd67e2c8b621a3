"""Tells when a search has stopped learning although every loss is still a finite number."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean

from policy_search.relaxed.search import SearchDivergedError, StepReport


class Watch:
    """Fed with every report of a search; raises once the critic has collapsed.

    Over the last `window` steps, one of these must hold for all of them:

    * *constant*: |distance| at most `still`, and the penalty moves by at most `still`. The critic gives every pair the
      same score. In healthy runs the distance of a batch swings by 0.01 and more, also where the mean is 0.
    * *flat*: the penalty is within `flat` of 1, which is what (|gradient| / norm - 1)^2 is where the gradient vanishes.
      A critic far from its norm passes through 1 in a step or two.
    * *exploded*: the mean of |distance|, or that of the penalty, is above `limit`: a gradient over 30 times its norm.

    The warm-up counts: a critic that is dead before the policy moves is dead for good. The state depends on the reports
    alone, so after a resume the old reports are fed again.

    Args:
        window: steps.
        still, flat, limit: see above, in units of the reports.
        multiplier: largest sane one of the source mode's constraint; beyond it the losses overflow soon.
    """

    def __init__(
        self,
        *,
        window: int = 20,
        still: float = 1e-4,
        flat: float = 0.02,
        limit: float = 1e3,
        multiplier: float = 1e12,
    ) -> None:
        self._recent: deque[StepReport] = deque(maxlen=window)
        self._still, self._flat, self._limit, self._multiplier = still, flat, limit, multiplier

    def __call__(self, report: StepReport) -> None:
        """Take one report.

        Raises:
            SearchDivergedError: a number is not finite, or the critic has collapsed; names the step and the losses.
        """
        numbers = {**report._asdict(), **report.strengths}
        del numbers["strengths"]
        if not all(math.isfinite(value) for value in numbers.values()):
            raise _diverged(report, "a number is not finite")
        if report.multiplier > self._multiplier:
            raise _diverged(report, f"the multiplier grew to {report.multiplier:.3g}, the distance cannot be kept")
        self._recent.append(report)
        if len(self._recent) < (self._recent.maxlen or 0):
            return
        steps = f"for {len(self._recent)} steps"
        distances = [abs(r.distance) for r in self._recent]
        penalties = [r.penalty for r in self._recent]
        if max(distances) <= self._still and max(penalties) - min(penalties) <= self._still:
            raise _diverged(report, f"the critic has collapsed: it gives every pair the same score {steps}")
        if max(abs(p - 1) for p in penalties) <= self._flat:
            raise _diverged(report, f"the critic has collapsed: its gradient is zero {steps}")
        if fmean(distances) > self._limit:
            raise _diverged(report, f"the critic has exploded: mean distance {fmean(distances):.3g} {steps}")
        if fmean(penalties) > self._limit:
            raise _diverged(report, f"the critic has exploded: mean penalty {fmean(penalties):.3g} {steps}")


def _diverged(report: StepReport, what: str) -> SearchDivergedError:
    losses = ", ".join(
        f"{name.replace('_', ' ')} = {getattr(report, name):.6g}"
        for name in ("critic_loss", "distance", "penalty", "policy_loss", "spread", "multiplier")
    )
    return SearchDivergedError(
        f"the search diverged at step {report.step}: {what} ({losses}). "
        "Try another seed, a larger batch or more images."
    )
