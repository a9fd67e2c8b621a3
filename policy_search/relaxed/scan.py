"""Where a warp begins, and whether one is needed: by trying magnitudes on the images.

Far from the right angle or size the statistics have no gradient that leads there (or one into a nearer valley that is
not as deep), and a warp that changes nothing that can be seen has none at all.
"""

from __future__ import annotations

import torch

from policy_search.relaxed.gauge import Gauge
from policy_search.relaxed.operations import Operation, simple_plan
from policy_search.relaxed.policy import SHUT, RelaxedPolicy

_CROPS = 64  # for each magnitude
_STEPS = 8  # between the bounds of a magnitude, even in the unit that is learnt
# What a warp must bring to begin away from rest: share of the mismatch, and mismatch.
_SHARE, _GAIN = 0.1, 0.1
_TOLERANCE = 0.1  # mismatch that a turn may cost or must bring


@torch.no_grad()
def begin_warp(policy: RelaxedPolicy, gauge: Gauge) -> None:
    """Begin at the one warp that the images prefer, and shut all others, if there is one.

    Args:
        policy: the simple form; its base is changed in place.
        gauge: decides.
    """
    tried = _bare(policy)
    centres = tried.base["centre"]
    rest, gaps = gauge(tried, _CROPS, shifted=True), {}
    for k, operation in enumerate(tried.operations):
        if operation.matrix is None:
            continue
        before = centres[k].item()
        for raw in _raw_grid(operation):
            centres[k] = raw
            gaps[operation, raw] = gauge(tried, _CROPS, shifted=True)
        centres[k] = before
    if gaps:
        operation, raw = min(gaps, key=gaps.__getitem__)
        if gaps[operation, raw] < (1 - _SHARE) * rest - _GAIN:
            for k, other in enumerate(policy.operations):
                if other is operation:
                    policy.base["centre"][k] = raw
                elif other.matrix is not None:
                    policy.base["gate"][k] = 4 * SHUT


def _bare(policy: RelaxedPolicy) -> RelaxedPolicy:
    """Its geometry and tone alone: texture is at rest, and costs more than both."""
    kept = [(k, o) for k, o in enumerate(policy.operations) if o.matrix is not None or o.curve is not None]
    names = [o.name for _, o in kept]
    bare = RelaxedPolicy(
        [o for _, o in kept], sub_policies=1, plan=simple_plan(names), generator=torch.Generator(), spread=0.0,
        start="identity",
    ).to(policy.base["centre"].device)  # fmt: skip
    for part in ("gate", "centre", "width"):
        for i, (k, _) in enumerate(kept):
            bare.base[part][i] = policy.raw(part)[0, 0, k]
    return bare


def _raw_grid(operation: Operation) -> list[float]:
    """Raw centres of magnitudes between the bounds, without the bounds, where the gradient vanishes."""
    span = operation.magnitude
    assert span is not None  # begin_warp has asked for it
    places = torch.linspace(0, 1, _STEPS + 1)[1:-1]
    return places.logit().tolist()


@torch.no_grad()
def rest_idle_turns(policy: RelaxedPolicy, gauge: Gauge) -> None:
    """Take back rotation and shear where the images do not ask for them: they wander where nothing shows them."""
    gap = gauge(policy)
    centres = policy.base["centre"]
    for k, operation in enumerate(policy.operations):
        span = operation.magnitude
        if span is None or operation.matrix is None or not operation.keeps_area:
            continue  # no turn
        before = centres[k].item()
        centres[k] = span.raw_centre(span.identity)
        without = gauge(policy)
        if without < gap + _TOLERANCE:
            gap = min(gap, without)
        else:
            centres[k] = before
