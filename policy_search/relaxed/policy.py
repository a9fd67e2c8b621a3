"""The learnt policy: P sub-policies of S stages, each a softmax over K operations with gates and magnitude ranges.

Each stage chooses among the groups that the plan gives it. Where every stage chooses from everything, the operation
that is learnt first (tone, always) takes all stages, and none is left for the others.

Parameters are shared: a base (per stage and operation for the choice, per operation for gate and magnitude) that every
image trains, plus a small offset per sub-policy. Without the shared base each of the P * S * K parameters sees too few
images to move.

Every draw is hard. In the forward value each image goes through one sub-policy, one operation per stage, on or off,
exactly as Albumentations will run it, so image and mask always belong together (no half-blended ghost under a sharp
mask) and the searched images have the statistics of the emitted ones. (One exception: consecutive warps are resampled
once here, twice there; see `warp.Canvas`.) Only the gradient is relaxed, in one of two ways:

* "sampled" (default): only the drawn operation is computed. Gradient to its magnitude by reparameterisation, to its
  gate by the straight-through relaxed Bernoulli. The choice has no such gradient: a derivative at the drawn operation
  cannot know how much better another one is (brightness at its best, next to a contrast that never lifts a dark image,
  both have none). `log_choice` is for the score-function gradient, which compares outcomes.
* "soft": all K operations are computed and the gradient is that of the weighted sum with relaxed gates (Faster
  AutoAugment's form) around the same hard value. K times the cost; dense gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from policy_search.relaxed.operations import PLAN, Operation, Plan
from policy_search.relaxed.tone import straight_through
from policy_search.relaxed.warp import Canvas

Application = Literal["sampled", "soft"]


class Applied(NamedTuple):
    """Augmented images (B, C, H, W) and masks (B, 1, H, W), and the log-probability (B,) of the operations chosen."""

    image: Tensor
    mask: Tensor
    log_choice: Tensor


@dataclass(frozen=True)
class Draw:
    """What was drawn for each image; all random but the noise within an operation.

    Attributes:
        sub_policy: (B,) int64.
        choice: (B, S) int64, index of the operation.
        logistic: (B, S, K) noise of the relaxed gates; a gate is open where logit + noise > 0.
        uniform: (B, S, K) in [0, 1): the place of the magnitude within its range.
    """

    sub_policy: Tensor
    choice: Tensor
    logistic: Tensor
    uniform: Tensor


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
        gate: the gate probability before learning.
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
        gate: float = 0.5,
    ) -> None:
        super().__init__()
        # A stage whose groups have no operation (the caller has left them out) is left out too.
        allowed = [[operation.group in groups for operation in operations] for groups in plan]
        allowed = [row for row in allowed if any(row)]
        if not allowed or sub_policies < 1:
            raise ValueError(
                f"expected at least one sub-policy and a stage with an operation to choose, got {sub_policies} "
                f"sub-policies, operations {[o.name for o in operations]} and plan {plan}"
            )
        self.operations = tuple(operations)
        self.register_buffer("allowed", torch.tensor(allowed), persistent=False)
        geometric = [any(row[k] and o.matrix is not None for k, o in enumerate(self.operations)) for row in allowed]
        self._last_warp = max((s for s, warps in enumerate(geometric) if warps), default=-1)
        self.temperature = temperature
        stages, count = len(allowed), len(self.operations)
        shape = (sub_policies, stages, count)
        starts = [(0.0, 0.0) if o.magnitude is None else o.magnitude.raw_start() for o in self.operations]
        self.base = nn.ParameterDict(
            {
                "choice": nn.Parameter(torch.zeros(stages, count)),
                "gate": nn.Parameter(torch.full((count,), gate).logit()),
                "centre": nn.Parameter(torch.tensor([start[0] for start in starts])),
                "width": nn.Parameter(torch.tensor([start[1] for start in starts])),
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
        choice = torch.multinomial(weight.reshape(-1, count), 1, generator=generator).reshape(batch, self.stages)
        shape = (batch, self.stages, count)
        uniform = torch.rand(shape, generator=generator, device=device)
        # Keeps the logarithms finite at the ends of [0, 1).
        place = torch.rand(shape, generator=generator, device=device).clamp(1e-6, 1 - 1e-6)
        return Draw(sub_policy, choice, place.logit(), uniform)

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        generator: torch.Generator,
        *,
        fill: float,
        size: int | None = None,
        application: Application = "sampled",
        draw: Draw | None = None,
    ) -> Applied:
        """Augment a batch.

        Args:
            image: (B, C, H, W) float in [0, 1], multiples of 1/255, C 1 or 3.
            mask: (B, 1, H, W) float, 0 or 1.
            generator: all randomness, on the images' device.
            fill: in [0, 1], what a warp or a hole uncovers.
            size: side of the square in the middle that is wanted (the rest is context for warps); all when None.
            application: see the module's docstring; the value has the same distribution either way.
            draw: instead of a fresh one.
        """
        draw = self.draw(len(image), generator) if draw is None else draw
        table = Table(*(entry[draw.sub_policy] for entry in self.table()))  # each (B, S, K)
        logit = self.raw("gate")[draw.sub_policy]
        relaxed = torch.sigmoid((logit + draw.logistic) / self.temperature)
        gates = straight_through((logit + draw.logistic > 0).to(relaxed.dtype), relaxed)
        log_weight = self.log_weight()[draw.sub_policy]
        canvas = Canvas(image, mask, fill)
        for stage in range(self.stages):
            if stage == self._last_warp + 1:
                canvas.render(size)
            here = Table(*(entry[:, stage] for entry in table))._replace(gate=gates[:, stage])
            chosen, place = draw.choice[:, stage], draw.uniform[:, stage]
            if application == "sampled":
                self._sampled(canvas, here, chosen, place, generator)
            else:
                self._soft(canvas, here, log_weight[:, stage], chosen, place, generator)
        canvas.render(size)
        return Applied(canvas.image, canvas.mask, log_weight.gather(2, draw.choice[..., None]).sum((1, 2)))

    def _sampled(
        self,
        canvas: Canvas,
        table: Table,
        choice: Tensor,
        uniform: Tensor,
        generator: torch.Generator,
    ) -> None:
        """One stage, each drawn operation on the images that drew it. Table entries are (B, K), gates 0 or 1."""
        rows_of: dict[int, Tensor] = {k: torch.nonzero(choice == k)[:, 0] for k in choice.unique().tolist()}
        back = torch.argsort(torch.cat(list(rows_of.values())))
        gates, magnitudes, matrices = {}, {}, []
        for k, rows in rows_of.items():
            operation = self.operations[k]
            gates[k] = table.gate[rows, k]
            magnitudes[k] = operation.draw(table.low[rows, k], table.high[rows, k], uniform[rows, k])
            if operation.matrix is None:
                matrices.append(torch.eye(3, device=uniform.device, dtype=uniform.dtype).expand(len(rows), 3, 3))
            else:
                matrices.append(operation.matrix(operation.effective(magnitudes[k], gates[k])))
        if any(self.operations[k].matrix is not None for k in rows_of):
            canvas.move(torch.cat(matrices)[back])
        if all(self.operations[k].matrix is not None for k in rows_of):
            return
        canvas.render()
        images, masks = [], []
        for k, rows in rows_of.items():
            operation = self.operations[k]
            image, mask = canvas.image[rows], canvas.mask[rows]
            if operation.matrix is None:
                image, mask = operation.apply(image, mask, magnitudes[k], gates[k], generator, canvas.fill)
            images.append(image)
            masks.append(mask)
        canvas.image, canvas.mask = torch.cat(images)[back], torch.cat(masks)[back]

    def _soft(
        self,
        canvas: Canvas,
        table: Table,
        log_weight: Tensor,
        choice: Tensor,
        uniform: Tensor,
        generator: torch.Generator,
    ) -> None:
        """One stage, all operations; the value of the drawn one, the gradient of the weighted sum."""
        canvas.render()
        image, mask = canvas.image, canvas.mask
        blends = [torch.zeros_like(image), torch.zeros_like(mask)]
        values = [torch.zeros_like(image), torch.zeros_like(mask)]
        for k, operation in enumerate(self.operations):
            if torch.isinf(log_weight[0, k]):
                continue
            magnitude = operation.draw(table.low[:, k], table.high[:, k], uniform[:, k])
            changed = operation.apply(image, mask, magnitude, table.gate[:, k], generator, canvas.fill)
            share = log_weight[:, k, None, None, None].exp()
            chosen = (choice == k)[:, None, None, None]
            for i, output in enumerate(changed):
                blends[i] = blends[i] + share * output
                values[i] = torch.where(chosen, output.detach(), values[i])
        canvas.image, canvas.mask = (straight_through(v, b) for v, b in zip(values, blends, strict=True))

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
