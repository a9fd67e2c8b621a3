"""What one step of the search costs, and the policy's part in it: measured in this process alone, printed as JSON.

Called by `bench_search.py`, once for each figure of memory: a process's peak is that of everything it ever did. CPU
seconds of one thread, so that other work on the machine counts little.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from peer import training_pairs
from torch import Tensor
from torch.nn import functional

from policy_search.relaxed import PLAN, Search, SearchSettings, search
from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.crops import CropSampler, Pair
from policy_search.relaxed.operations import Plan, free_plan
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.warp import centre

WARM_UP = 3
MARGIN = SearchSettings.model_fields["margin"].default


@dataclass(frozen=True)
class Case:
    """One configuration. `operations` and `stages` None: the default operations, the default plan.

    With `free` every stage chooses from all operations, as in Faster AutoAugment, instead of from its groups. `batch`
    augmented images and as many real ones; `size` is the side of what the critic sees.
    """

    sub_policies: int = 40
    stages: int | None = None
    free: bool = False
    operations: int | None = None
    batch: int = 8
    size: int = 256
    channels: int = 1
    target: bool = False
    identity: bool = False

    def plan(self) -> Plan:
        """Of the stages."""
        if self.stages is None:
            return PLAN
        return free_plan(self.stages) if self.free else shared_plan(self.stages)

    def settings(self) -> SearchSettings:
        """Of the search; the policy learns from the first step on."""
        return SearchSettings(
            operation_names=some_operations(self.operations),
            sub_policies=self.sub_policies,
            plan=self.plan(),
            batch=self.batch,
            crop=self.size,
            warmup=0,
        )


def shared_plan(stages: int) -> Plan:
    """The default plan drawn out or shortened: its stages in their order, a single one moves."""
    return tuple(PLAN[stage * len(PLAN) // stages] for stage in range(stages))


def some_operations(count: int | None) -> tuple[str, ...]:
    """`count` names taken from the groups in turn, so that few still cover many; () for None, which means all."""
    if count is None:
        return ()
    groups: dict[str, list[str]] = {}
    for operation in operations():
        groups.setdefault(str(operation.group), []).append(operation.name)
    turns = [name for turn in range(len(operations())) for names in groups.values() for name in names[turn : turn + 1]]
    return tuple(turns[:count])


def make_search(case: Case, pairs: Sequence[Pair]) -> Search:
    """A search that has not begun."""
    if case.channels == 3:
        pairs = [(image[..., None].repeat(3, 2) if image.ndim == 2 else image, mask) for image, mask in pairs]
    sampler = CropSampler(pairs)
    return Search(sampler, CropSampler(pairs) if case.target else None, case.settings(), seed=0)


def make_step(case: Case, pairs: Sequence[Pair]) -> Callable[[], object]:
    """One step of a search that has not begun, to be called again and again."""
    made = make_search(case, pairs)

    def step() -> object:
        # Only while this one runs: searches with and without the policy take turns.
        with mock.patch.object(search, "apply", still) if case.identity else nullcontext():
            return made.step()

    return step


def still(policy: RelaxedPolicy, image: Tensor, mask: Tensor, *_: Any, size: int, **__: Any) -> tuple[Tensor, Tensor]:
    """In place of `apply`: the middle of the images as they are, tied to a parameter so that losses have a graph."""
    nothing = 0 * next(policy.parameters()).sum()
    return centre(image, size) + nothing, centre(mask, size)


def make_policy(case: Case) -> RelaxedPolicy:
    """The policy of a case, without a search around it."""
    settings = case.settings()
    return RelaxedPolicy(
        operations(*settings.operation_names),
        sub_policies=settings.sub_policies,
        plan=settings.plan,
        generator=torch.Generator().manual_seed(0),
    )


def policy_only(policy: RelaxedPolicy, size: int, image: Tensor, mask: Tensor) -> Callable[[], None]:
    """Forward and backward of the policy application alone: all images, gradients to every parameter."""
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(len(image), image.shape[1], size, size)

    def run() -> None:
        policy.zero_grad(set_to_none=True)
        changed = apply(policy, image, mask, generator, fill=0.5, size=size)
        torch.autograd.backward(changed, [ones, ones[:, :1]])

    return run


def plain_warp(image: Tensor, mask: Tensor, size: int) -> Callable[[], None]:
    """The yardstick: one bilinear warp of image and mask together by torch itself, gradient to its six numbers."""
    stacked = torch.cat([image, mask], 1)
    ones = torch.ones(len(image), stacked.shape[1], size, size)
    share = size / image.shape[2]
    angle = torch.linspace(-0.5, 0.5, len(image))
    matrix = torch.zeros(len(image), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = share * angle.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -share * angle.sin(), share * angle.sin()
    matrix.requires_grad_(True)

    def run() -> None:
        matrix.grad = None
        grid = functional.affine_grid(matrix, [len(image), stacked.shape[1], size, size], align_corners=False)
        functional.grid_sample(stacked, grid, align_corners=False).backward(ones)

    return run


def in_turn(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of every call, the jobs one after another in every round so that all meet the same disturbances."""
    for job in jobs.values():
        for _ in range(WARM_UP):
            job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            started = time.process_time()
            job()
            seconds[name].append(round(time.process_time() - started, 5))
    return seconds


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request of `bench_search.py`: kind "steps" or "policy", data, root, repeats, cases by name."""
    pairs = training_pairs(request["data"], request["root"])
    cases = {name: Case(**fields) for name, fields in request["cases"].items()}
    jobs: dict[str, Callable[[], object]] = {}
    for name, case in cases.items():
        if request["kind"] == "steps":
            jobs[name] = make_step(case, pairs)
        else:
            side = case.size + 2 * MARGIN
            image, mask = CropSampler(pairs).sample(case.batch, side, torch.Generator().manual_seed(0))
            jobs[name] = policy_only(make_policy(case), case.size, image, mask)
            jobs.setdefault("warp", plain_warp(image, mask, case.size))
    seconds = in_turn(jobs, request["repeats"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": seconds, "peak_mb": peak, "cases": {name: asdict(case) for name, case in cases.items()}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(json.loads(sys.argv[1]))))
