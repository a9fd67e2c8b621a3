"""Mixed precision: the critic's convolutions in bfloat16, what a policy learns by near that of float32.

On the CPU, whose autocast is that of a GPU with another list of devices; no figure here is a GPU's.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.search import Search, SearchSettings
from policy_search.relaxed.threads import one_thread
from tests.relaxed.textures import culture

SETTINGS = SearchSettings(sub_policies=4, steps=30, warmup=0, batch=8, crop=64, margin=16)


def seen_by(amp: bool, steps: int) -> tuple[Search, list[tuple[float, float]], set[torch.dtype], dict[str, Tensor]]:
    """A search after so many steps: distance and penalty of each, dtypes of convolutions, the last policy gradients."""
    with one_thread():
        search = Search(CropSampler([culture(seed) for seed in range(4)]), None, SETTINGS, 0, amp=amp)
        kinds: set[torch.dtype] = set()
        for layer in (search.critic.features[0], search.features.body[0]):
            layer.register_forward_hook(lambda module, given, out: kinds.add(out.dtype))
        losses = [(report.distance, report.penalty) for report in (search.step() for _ in range(steps))]
    gradients = {n: p.grad for n, p in search.policy.named_parameters() if p.grad is not None}
    return search, losses, kinds, gradients


def test_convolutions_are_in_half_precision_and_what_is_learnt_is_not() -> None:
    search, _, kinds, gradients = seen_by(amp=True, steps=1)
    assert kinds == {torch.bfloat16}
    assert seen_by(amp=False, steps=1)[2] == {torch.float32}
    kept = [*search.policy.parameters(), *search.critic.parameters(), *gradients.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_a_step_is_that_of_full_precision_but_for_rounding() -> None:
    _, half, _, found = seen_by(amp=True, steps=1)
    _, full, _, wanted = seen_by(amp=False, steps=1)
    # The first step, at equal weights; bfloat16 keeps 8 bits.
    assert half[0] == pytest.approx(full[0], rel=0.02, abs=0.01)
    assert any(a != b for a, b in zip(half, full, strict=True))
    assert found.keys() == wanted.keys()
    flat = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in (found, wanted)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.97


def test_a_run_in_half_precision_stays_finite() -> None:
    search, losses, _, _ = seen_by(amp=True, steps=30)
    assert search.done == SETTINGS.steps
    assert all(math.isfinite(value) for pair in losses for value in pair)
    assert all(torch.isfinite(p).all() for p in search.average.parameters())
