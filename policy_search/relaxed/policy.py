"""The learnt policy: P sub-policies of S stages, each a softmax over K operations with gates and magnitude ranges.

Each stage chooses among the groups (or single operations) that the plan gives it. Where every stage chooses from
everything, the operation that is learnt first (tone, always) takes all stages, and none is left for the others.

Parameters are shared: a base (per stage and operation for the choice, per operation for gate and magnitude) that every
image trains, plus a small offset per sub-policy. Without the shared base each of the P * S * K parameters sees too few
images to move.

How a draw acts on images, and where its gradient comes from, is in application.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from policy_search.relaxed.operations import PLAN, Operation, Plan

Start = Literal["varied", "identity"]
# Raw width and gates of a policy that starts at the identity: a range of 2 % of what the bounds leave, nearly always on
# (a closed gate hides its operation's magnitude from the gradient), or nearly always off where nothing lies near the
# identity.
NARROW, OPEN, SHUT = -4.0, 5.0, -5.0


@dataclass(frozen=True)
class Draw:
    """What was drawn for each image; all random but the noise within an operation.

    Attributes:
        sub_policy: (B,) int64.
        choice: (B, S) int64, index of the operation.
        logistic: (B, S, K) noise of the gates; a gate is open where logit + noise > 0.
        uniform: (B, S, K) in [0, 1): the place of the magnitude within its range.
        noise: (B, S, 2) in [0, 1): what tone operations and the place of a crop draw besides; the first also gives a
            hole's second side.
    """

    sub_policy: Tensor
    choice: Tensor
    logistic: Tensor
    uniform: Tensor
    noise: Tensor


class Table(NamedTuple):
    """The policy in plain numbers, each (P, S, K): softmax weights, gates, and ends of the magnitude ranges.

    Operations without a magnitude have 0 and 1 there.
    """

    weight: Tensor
    gate: Tensor
    low: Tensor
    high: Tensor


class RelaxedPolicy(nn.Module):
    """A policy under search.

    Args:
        operations: the K entries to choose from.
        sub_policies: P.
        plan: the groups that each of the S stages chooses from.
        generator: draws the first offsets, which tell the sub-policies and the stages apart.
        temperature: of the softmax over operations and of the relaxed gates.
        spread: standard deviation of the first offsets of the choices; the others' is a third.
        start: "varied", with the catalogue's ranges and gates of one half, or "identity", where the policy begins by
            changing nothing and every change has to be earned.
    """

    allowed: Tensor  # (S, K) bool, what the plan lets each stage choose

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        sub_policies: int,
        generator: torch.Generator,
        plan: Plan = PLAN,
        temperature: float = 1.0,
        spread: float = 0.3,
        start: Start = "varied",
    ) -> None:
        super().__init__()
        # A stage whose groups have no operation (the caller has left them out) is left out too.
        allowed = [[o.group in entries or o.name in entries for o in operations] for entries in plan]
        allowed = [row for row in allowed if any(row)]
        if not allowed or sub_policies < 1:
            raise ValueError(
                f"expected at least one sub-policy and a stage with an operation to choose, got {sub_policies} "
                f"sub-policies, operations {[o.name for o in operations]} and plan {plan}"
            )
        self.operations = tuple(operations)
        self.register_buffer("allowed", torch.tensor(allowed), persistent=False)
        # The same on the host: reading a tensor on another device inside the step would wait for that device.
        self.stage_operations = tuple(tuple((k, o) for k, o in enumerate(self.operations) if row[k]) for row in allowed)
        self.temperature = temperature
        stages, count = len(allowed), len(self.operations)
        shape = (sub_policies, stages, count)
        starts = [_start(operation, start) for operation in self.operations]
        self.base = nn.ParameterDict(
            {
                "choice": nn.Parameter(torch.zeros(stages, count)),
                "gate": nn.Parameter(torch.tensor([gate for gate, _, _ in starts])),
                "centre": nn.Parameter(torch.tensor([centre for _, centre, _ in starts])),
                "width": nn.Parameter(torch.tensor([width for _, _, width in starts])),
            }
        )
        deviations = {"choice": spread, "gate": spread / 3, "centre": spread / 3, "width": spread / 3}
        self.offset = nn.ParameterDict(
            {n: nn.Parameter(d * torch.randn(shape, generator=generator)) for n, d in deviations.items()}
        )

    @property
    def sub_policies(self) -> int:
        """P."""
        return self.offset["choice"].shape[0]

    @property
    def stages(self) -> int:
        """S."""
        return self.offset["choice"].shape[1]

    def raw(self, name: str) -> Tensor:
        """Raw parameter "choice", "gate", "centre" or "width", base and offset together, (P, S, K)."""
        return self.base[name] + self.offset[name]

    def log_weight(self) -> Tensor:
        """Logarithm of the softmax over operations, (P, S, K); minus infinity where the plan allows none."""
        return torch.log_softmax((self.raw("choice") / self.temperature).masked_fill(~self.allowed, -torch.inf), -1)

    def table(self) -> Table:
        """The policy in plain numbers, differentiable."""
        weight = self.log_weight().exp()
        gate = torch.sigmoid(self.raw("gate"))
        centre, width = self.raw("centre"), self.raw("width")
        lows, highs = [], []
        for k, operation in enumerate(self.operations):
            if operation.magnitude is None:
                # Tied to the raw numbers by 0, so that every parameter always has a gradient.
                nothing = 0 * (centre[..., k] + width[..., k])
                low, high = nothing, nothing + 1
            else:
                low, high = operation.magnitude.ends(centre[..., k], width[..., k])
            lows.append(low)
            highs.append(high)
        return Table(weight, gate, torch.stack(lows, -1), torch.stack(highs, -1))

    def draw(self, batch: int, generator: torch.Generator, sub_policy: Tensor | None = None) -> Draw:
        """Draw sub-policies (uniform, unless given), operations, gates and places for `batch` images."""
        count = len(self.operations)
        device = generator.device
        if sub_policy is None:
            sub_policy = torch.randint(self.sub_policies, (batch,), generator=generator, device=device)
        with torch.no_grad():
            weight = self.log_weight().exp()[sub_policy]
        # What torch.multinomial does (a race of exponential times), less its checks, which wait for the device.
        race = torch.empty_like(weight).exponential_(generator=generator)
        choice = (weight / race).argmax(-1)
        shape = (batch, self.stages, count)
        uniform = torch.rand(shape, generator=generator, device=device)
        # Keeps the logarithms finite at the ends of [0, 1).
        place = torch.rand(shape, generator=generator, device=device).clamp(1e-6, 1 - 1e-6)
        noise = torch.rand((batch, self.stages, 2), generator=generator, device=device)
        return Draw(sub_policy, choice, place.logit(), uniform, noise)

    def describe(self, threshold: float = 0.02) -> str:
        """A readable table: for each stage, operations by mean weight over the sub-policies, with gate and range."""
        with torch.no_grad():
            table = self.table()
        lines = [f"{self.sub_policies} sub-policies x {self.stages} stages x {len(self.operations)} operations"]
        lines.append(f"{'stage':>5}  {'operation':<16}{'weight':>7}{'gate':>7}{'low':>9}{'high':>9}")
        for stage in range(self.stages):
            weights = table.weight[:, stage].mean(0)
            for k in torch.argsort(weights, descending=True).tolist():
                if weights[k] < threshold:
                    break
                operation = self.operations[k]
                # Weighted over sub-policies: what an image that draws the operation is likely to meet.
                share = table.weight[:, stage, k] / table.weight[:, stage, k].sum()
                gate, low, high = ((share * e[:, stage, k]).sum().item() for e in (table.gate, table.low, table.high))
                ends = f"{low:9.3g}{high:9.3g}" if operation.magnitude else f"{'-':>9}{'-':>9}"
                lines.append(f"{stage + 1:>5}  {operation.name:<16}{weights[k].item():7.3f}{gate:7.2f}{ends}")
        return "\n".join(lines)

    def extra_repr(self) -> str:
        """The table, so that printing the module shows what it has learnt."""
        return self.describe()


def _start(operation: Operation, start: Start) -> tuple[float, float, float]:
    """Raw gate, centre and width before learning."""
    span = operation.magnitude
    if start == "varied":
        return (0.0, 0.0, 0.0) if span is None else (0.0, *span.raw_start())
    if span is None or span.rest is None:
        return (SHUT, 0.0, 0.0) if span is None else (SHUT, *span.raw_start())
    return OPEN, span.raw_centre(span.rest), NARROW
