"""From "every operation acts" to "each stage chooses one": the policy of choices that does what the simple form does.

As in DARTS (Liu et al. 2019), a relaxed solution is found first and choices are made from it. What is compared is not
the weight of an operation but what it could do alone: for geometry and tone, whose composed warp and curve are known,
the operation and magnitude that come nearest to those; for texture, the mismatch of the images with each one alone.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from policy_search.relaxed import tone
from policy_search.relaxed.application import compose_curve, compose_matrix, resolve
from policy_search.relaxed.chooser import AJAR, Chooser, Mismatch
from policy_search.relaxed.operations import PLAN
from policy_search.relaxed.policy import SHUT, RelaxedPolicy


@torch.no_grad()
def discretise(
    simple: RelaxedPolicy,
    policy: RelaxedPolicy,
    mismatch_of: Mismatch,
    typical: Tensor,
    deviation: float,
) -> Chooser:
    """Set the choices, gates and magnitudes of `policy` so that it does what `simple` does, stage by stage.

    Args:
        simple: one sub-policy, every operation a stage of its own.
        policy: starts from the identity; its base is changed in place.
        mismatch_of: decides between choices.
        typical: (1, C, H, W), an image with the source's grey levels, on the host, where choices are made.
        deviation: of the source's pixels, in [0, 1].

    Returns:
        What has made the choices, and can make others.
    """
    chooser = Chooser(policy, simple, mismatch_of)
    matrix, curve = _middle(simple, typical)
    if curve is not None:
        chooser.tone(curve, tone.histogram(typical), deviation)
    if matrix is not None:
        chooser.geometry_by_matrix(matrix[:2, :2])
    if matrix is not None:
        chooser.shapes(matrix[:2, :2])
    chooser.texture()
    if matrix is not None:
        chooser.geometry_by_images(matrix[:2, :2])
        if chooser.drop_smoothing():
            chooser.texture()  # chosen beside warps that are gone
    return chooser


@torch.no_grad()
def sparse(simple: RelaxedPolicy, chooser: Chooser) -> RelaxedPolicy:
    """A copy of a simple form in which the chosen operations act, as they were chosen, and all others are shut.

    Ten operations that act together can share one change of size or of contrast between them in many ways, and wander
    along those.
    """
    found = copy.deepcopy(simple)
    found.base["gate"].fill_(4 * SHUT)
    for k, _ in chooser.made.values():
        for part in ("gate", "centre", "width"):
            found.base[part][k] = chooser.policy.base[part][k]
            found.offset[part][:, :, k] = 0.0
    return found


@torch.no_grad()
def choosing(simple: RelaxedPolicy) -> RelaxedPolicy:
    """A policy in which a few stages choose from the operations of a simple form."""
    return RelaxedPolicy(
        simple.operations, sub_policies=1, plan=PLAN, generator=torch.Generator(), spread=0.0, start="identity"
    ).to(simple.base["centre"].device)


def _middle(simple: RelaxedPolicy, typical: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The composed matrix (3, 3) and curve (1, C, 256) with every magnitude in its middle and every gate decided; None
    where nothing of the kind acts."""
    simple = copy.deepcopy(simple).cpu()
    draw = simple.draw(1, torch.Generator().manual_seed(0))
    gates = simple.raw("gate")[draw.sub_policy]
    certain = torch.where(gates > AJAR, 1e3, -1e3).to(draw.logistic.dtype)
    draw = replace(draw, logistic=certain, uniform=torch.full_like(draw.uniform, 0.5))
    drawn = resolve(simple, draw)
    matrix, curve = compose_matrix(simple, drawn), compose_curve(simple, drawn, draw, typical)
    warps = any(o.matrix is not None and gates[0, 0, k] > AJAR for k, o in enumerate(simple.operations))
    return matrix[0] if matrix is not None and warps else None, curve
