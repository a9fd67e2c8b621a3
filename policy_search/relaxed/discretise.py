"""From "every operation acts" to "each stage chooses one": the policy of choices that does what the simple form does.

As in DARTS (Liu et al. 2019), a relaxed solution is found first and choices are made from it. What is compared is not
the weight of an operation but what it could do alone: for geometry and tone, whose composed warp and curve are known,
the operation and magnitude that come nearest to those; for texture, the mismatch of the images with each one alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from policy_search.relaxed import tone
from policy_search.relaxed.application import compose_curve, compose_matrix, resolve
from policy_search.relaxed.operations import PLAN, Operation
from policy_search.relaxed.policy import NARROW, OPEN, SHUT, RelaxedPolicy
from policy_search.relaxed.tone import LEVELS

_CERTAIN = 6.0  # logit of the operation that a stage chooses; the others have 0
_IMAGES = 192  # per candidate, where images decide
_POINTS = 257  # magnitudes that are tried for each operation
# Changes of tone below this, in deviations of the data and in grey levels, are compared by the images: three operations
# at rest truncate by a level or two together, as Albumentations' do.
_NEGLIGIBLE, _LEVELS = 0.2, 3.0
_SLIVER = 1e-4
_AJAR = -1.0  # raw gate (open in 27 % of the draws) above which an operation counts as found
_NEAR = (0, -3, 3, -6, 6, -9, 9, -12, 12)  # degrees about a chosen angle; the first of equals stays
_TOLERANCE = 0.1  # mismatch by which an operation must be better than none


@torch.no_grad()
def discretise(
    simple: RelaxedPolicy,
    policy: RelaxedPolicy,
    mismatch_of: Callable[[RelaxedPolicy, int], float],
    typical: Tensor,
    deviation: float,
) -> tuple[int, ...]:
    """Set the choices, gates and magnitudes of `policy` so that it does what `simple` does, stage by stage.

    Args:
        simple: one sub-policy, every operation a stage of its own.
        policy: starts from the identity; its base is changed in place.
        mismatch_of: mismatch of a policy over so many images.
        typical: (1, C, H, W), an image with the source's grey levels, on the host, where choices are made.
        deviation: of the source's pixels, in [0, 1].

    Returns:
        The chosen operations, as places in `policy.operations`.
    """
    chooser = _Chooser(policy, simple, mismatch_of)
    matrix, curve = _middle(simple, typical)
    if curve is not None:
        chooser.tone(curve, tone.histogram(typical), deviation)
    if matrix is not None:
        chooser.geometry_by_matrix(matrix[:2, :2])
    chooser.texture()
    if matrix is not None:
        chooser.geometry_by_images(matrix[:2, :2])
    return tuple(k for k, _ in chooser.made.values())


@torch.no_grad()
def sparse(
    simple: RelaxedPolicy, mismatch_of: Callable[[RelaxedPolicy, int], float], typical: Tensor, deviation: float
) -> RelaxedPolicy:
    """A copy of a simple form in which one operation of each kind acts and all others are shut.

    Ten operations that act together can share one change of size or of contrast between them in many ways, and wander
    along those. The arguments are as for `discretise`.
    """
    chosen = RelaxedPolicy(
        simple.operations, sub_policies=1, plan=PLAN, generator=torch.Generator(), spread=0.0, start="identity"
    ).to(simple.base["centre"].device)
    kept = discretise(simple, chosen, mismatch_of, typical, deviation)
    found = copy.deepcopy(simple)
    found.base["gate"].fill_(4 * SHUT)
    for k in kept:
        for part in ("gate", "centre", "width"):
            found.base[part][k] = chosen.base[part][k]
            found.offset[part][:, :, k] = 0.0
    return found


def _middle(simple: RelaxedPolicy, typical: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The composed matrix (3, 3) and curve (1, C, 256) with every magnitude in its middle and every gate decided."""
    simple = copy.deepcopy(simple).cpu()
    draw = simple.draw(1, torch.Generator().manual_seed(0))
    gates = simple.raw("gate")[draw.sub_policy]
    certain = torch.where(gates > _AJAR, 1e3, -1e3).to(draw.logistic.dtype)
    draw = replace(draw, logistic=certain, uniform=torch.full_like(draw.uniform, 0.5))
    drawn = resolve(simple, draw)
    matrix, curve = compose_matrix(simple, drawn), compose_curve(simple, drawn, draw, typical)
    return None if matrix is None else matrix[0], curve


class _Chooser:
    """Makes and unmakes the choices of single stages."""

    def __init__(
        self, policy: RelaxedPolicy, simple: RelaxedPolicy, mismatch_of: Callable[[RelaxedPolicy, int], float]
    ) -> None:
        self.policy, self.simple, self.mismatch_of = policy, simple, mismatch_of
        self.made: dict[int, tuple[int, float]] = {}  # stage -> operation and magnitude

    def make(self, stage: int, choice: tuple[int, float] | None) -> None:
        """Let a stage do one operation at one magnitude, or nothing."""
        base, entries = self.policy.base, self.policy.stage_operations[stage]
        taken = {k for s, (k, _) in self.made.items() if s != stage}
        for k, _ in entries:
            base["choice"][stage, k] = 0.0
            if k not in taken:
                base["gate"][k] = SHUT
        self.made.pop(stage, None)
        if choice is None:
            return
        k, magnitude = choice
        span = self.policy.operations[k].magnitude
        assert span is not None  # only operations that rest are candidates
        base["choice"][stage, k], base["centre"][k] = _CERTAIN, span.raw_centre(magnitude)
        # How often and how widely it acts is as it was found, where the same operation was found.
        base["gate"][k], base["width"][k] = self._found(self.policy.operations[k].name) or (OPEN, NARROW)
        self.made[stage] = choice

    def _found(self, name: str) -> tuple[float, float] | None:
        """Raw gate and width in the simple form; None where it was shut there."""
        at = next(i for i, o in enumerate(self.simple.operations) if o.name == name)
        gate, width = (self.simple.raw(part)[0, 0, at].item() for part in ("gate", "width"))
        return (gate, width) if gate > _AJAR else None

    def candidates(self, stage: int, kind: str) -> list[tuple[int, Operation]]:
        """Operations of a stage that rest, act in that way and are not taken by another stage."""
        taken = {k for s, (k, _) in self.made.items() if s != stage}
        entries = self.policy.stage_operations[stage]
        return [(k, o) for k, o in entries if o.rests and getattr(o, kind) is not None and k not in taken]

    def tone(self, wanted: Tensor, histogram: Tensor, deviation: float) -> None:
        """The operations that bring the curve nearest to the wanted one; by the images whether a small change is one.

        Stage by stage, then twice again given the others: the best first of two is not the best alone.
        """
        stages = [s for s in range(self.policy.stages) if self.candidates(s, "curve")]
        for _ in range(1 if len(stages) == 1 else 3):
            for stage in stages:
                self.make(stage, None)
                # A sliver better, so that no operation is taken for the rounding of another.
                least, choice = self._tone_gap(stage, None, wanted, histogram)[0] - _SLIVER, None
                for k, operation in self.candidates(stage, "curve"):
                    values = _grid(operation)
                    gaps = self._tone_gap(stage, (k, values), wanted, histogram)
                    i = int(gaps.argmin())
                    if gaps[i] < least:
                        least, choice = gaps[i].item(), (k, values[i].item())
                self.make(stage, choice)
        faint = max(_NEGLIGIBLE * deviation, _LEVELS / LEVELS)
        for stage in stages:
            choice = self.made.get(stage)
            if choice is not None:
                self.make(stage, None)
                without = self._tone_gap(stage, None, wanted, histogram)[0].item()
                self.make(stage, choice)
                if without < faint:
                    self._best(stage, [choice])

    def _tone_gap(self, stage: int, tried: tuple[int, Tensor] | None, wanted: Tensor, histogram: Tensor) -> Tensor:
        """Root mean square distances (N,) to the wanted curve with the stage at N magnitudes of an operation."""
        count = 1 if tried is None else len(tried[1])
        curve = tone.identity_curve(wanted).expand(count, -1, -1)
        shares = histogram.expand_as(curve)
        for s in range(self.policy.stages):
            if s == stage:
                choice = tried
            else:
                made = self.made.get(s)
                choice = None if made is None else (made[0], torch.full((count,), made[1]))
            if choice is not None and self.policy.operations[choice[0]].curve is not None:
                k, values = choice
                nothing = values.new_zeros(count, 0)
                curve = self.policy.operations[k].bend(curve, shares, values, torch.ones_like(values), nothing)
        return (shares * (curve - wanted).square()).sum(2).mean(1).sqrt()

    def geometry_by_matrix(self, wanted: Tensor) -> None:
        """Stage after stage the warp that brings the composed one nearest to the wanted one."""
        for stage in range(self.policy.stages):
            options = self._warps(stage, wanted)
            if options:
                self.make(stage, min(options, key=lambda option: option[0])[1])

    def geometry_by_images(self, wanted: Tensor) -> None:
        """The same choices again, by the images: no warp where it is as good."""
        for stage in range(self.policy.stages):
            options = self._warps(stage, wanted)
            if options:
                self._best(stage, [choice for _, choice in options])
        for stage, (k, angle) in list(self.made.items()):
            # The composed warp of the simple form may have shared a turn between rotation and shear.
            if self.policy.operations[k].name == "rotate":
                gaps = {}
                for near in _NEAR:
                    self.make(stage, (k, angle + near))
                    gaps[angle + near] = self.mismatch_of(self.policy, _IMAGES)
                self.make(stage, (k, min(gaps, key=gaps.__getitem__)))

    def texture(self) -> None:
        """The operation that is best alone, at the magnitude that it has in the simple form."""
        for stage in range(self.policy.stages):
            options: list[tuple[int, float]] = []
            for k, operation in self.candidates(stage, "pixels"):
                at = next(i for i, o in enumerate(self.simple.operations) if o.name == operation.name)
                table = self.simple.table()
                if self._found(operation.name) is not None:
                    options.append((k, ((table.low + table.high) / 2)[0, 0, at].item()))
            if options:
                self._best(stage, options)

    def _best(self, stage: int, options: list[tuple[int, float]]) -> None:
        kept: tuple[int, float] | None = None
        self.make(stage, None)
        least = self.mismatch_of(self.policy, _IMAGES) - _TOLERANCE
        for option in options:
            self.make(stage, option)
            gap = self.mismatch_of(self.policy, _IMAGES)
            if gap < least:
                least, kept = gap, option
        self.make(stage, kept)

    def _warps(self, stage: int, wanted: Tensor) -> list[tuple[float, tuple[int, float]]]:
        """Each candidate at its best magnitude, with its error, given what the other stages do.

        Cells lie at every angle, so shapes are compared up to a rotation (or mirror image) in front of them; rotations
        are compared as they are.
        """
        before = after = torch.eye(2)
        for other, (k, magnitude) in sorted(self.made.items()):
            make = self.policy.operations[k].matrix
            if make is not None and other != stage:
                matrix = make(torch.tensor([magnitude]))[0, :2, :2]
                before, after = (matrix @ before, after) if other < stage else (before, matrix @ after)
        options = []
        for k, operation in self.candidates(stage, "matrix"):
            make = operation.matrix
            assert make is not None  # candidates() has asked for it
            values = _grid(operation)
            full = after @ make(values)[:, :2, :2] @ before
            turns = operation.name == "rotate"
            gaps = full - wanted if turns else full @ full.mT - wanted @ wanted.T
            errors = gaps.square().sum((1, 2))
            i = int(errors.argmin())
            options.append((errors[i].item(), (k, values[i].item())))
        return options


def _grid(operation: Operation) -> Tensor:
    """Magnitudes between the bounds, even in the unit that is learnt."""
    span = operation.magnitude
    assert span is not None  # only operations that rest are candidates
    values = torch.linspace(span.forward(span.low), span.forward(span.high), _POINTS)
    return values.exp() if span.logarithmic else values
