"""Where a warp begins, and whether one is needed: by trying magnitudes on the images.

Far from the right angle or size the statistics have no gradient that leads there (or one into a nearer valley that is
not as deep), and a warp that changes nothing that can be seen has none at all.
"""

from __future__ import annotations

import torch

from policy_search.relaxed.gauge import Gauge
from policy_search.relaxed.operations import Operation, simple_plan
from policy_search.relaxed.policy import RelaxedPolicy

_CROPS = 64  # for each magnitude
_STEPS = 8  # between the bounds of a magnitude, even in the unit that is learnt; twice as many for angles of rotation
_ROUNDS = 2  # warps that may begin away from rest
# What a warp must bring to begin away from rest: share of the mismatch, and mismatch.
_SHARE, _GAIN = 0.1, 0.1
_TOLERANCE = 0.1  # mismatch that a turn may cost or must bring


@torch.no_grad()
def begin_warps(policy: RelaxedPolicy, gauge: Gauge) -> None:
    """Begin at the warp that the images prefer, if they do, and again beside it.

    Args:
        policy: the simple form; its base is changed in place.
        gauge: decides.
    """
    tried = _bare(policy)
    centres = tried.base["centre"]
    left = {k: o for k, o in enumerate(tried.operations) if o.matrix is not None}
    least = gauge(tried, _CROPS, shifted=True)
    for _ in range(_ROUNDS):
        gaps = {}
        for k, operation in left.items():
            before = centres[k].item()
            for raw in _raw_grid(operation):
                centres[k] = raw
                gaps[k, raw] = gauge(tried, _CROPS, shifted=True)
            centres[k] = before
        if not gaps:
            return
        k, raw = min(gaps, key=gaps.__getitem__)
        if gaps[k, raw] > (1 - _SHARE) * least - _GAIN:
            return
        least, centres[k] = gaps[k, raw], raw
        policy.base["centre"][policy.operations.index(left.pop(k))] = raw


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
    assert span is not None  # begin_warps has asked for it
    steps = 2 * _STEPS if operation.name == "rotate" else _STEPS
    places = torch.linspace(0, 1, steps + 1)[1:-1]
    return places.logit().tolist()


@torch.no_grad()
def rest_idle_turns(policy: RelaxedPolicy, gauge: Gauge) -> None:
    """Take back rotation and shear where the images do not ask for them: they wander where nothing shows them."""
    gap = gauge(policy)
    centres = policy.base["centre"]
    for k, operation in enumerate(policy.operations):
        span, make = operation.magnitude, operation.matrix
        if span is None or make is None:
            continue
        if abs(torch.linalg.det(make(torch.tensor([float(span.high)])))[0].item() - 1) > 1e-3:
            continue  # it changes the size of the cells: no turn
        before = centres[k].item()
        centres[k] = span.raw_centre(span.identity)
        without = gauge(policy)
        if without < gap + _TOLERANCE:
            gap = min(gap, without)
        else:
            centres[k] = before
