"""The choices of single stages: what each operation could do alone, by its numbers where those say it, or by images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from policy_search.relaxed import tone
from policy_search.relaxed.gauge import is_clear
from policy_search.relaxed.operations import Operation
from policy_search.relaxed.policy import NARROW, OPEN, SHUT, RelaxedPolicy
from policy_search.relaxed.tone import LEVELS

_CERTAIN = 6.0  # logit of the operation that a stage chooses; the others have 0
_IMAGES = 192  # per candidate, where images decide
_MANY = 384  # where they differ little
_POINTS = 257  # magnitudes that are tried for each operation
# Changes of tone below this, in deviations of the data and in grey levels, are compared by the images: three operations
# at rest truncate by a level or two together, as Albumentations' do.
_NEGLIGIBLE, _LEVELS = 0.2, 3.0
_SLIVER = 1e-4
AJAR = -1.0  # raw gate (open in 27 % of the draws) above which an operation counts as found
_ANGLES = [angle for angle in range(-80, 81, 20) if angle != 0]
_TOLERANCE = 0.1  # mismatch by which an operation must be better than none
_IDLE = 0.05  # a warp that moves no point further, of its distance from the middle, is none: 5 % of size, 3 degrees


class Mismatch(Protocol):
    """How far a policy's images are from the target's; see `Gauge`."""

    def __call__(self, policy: RelaxedPolicy, count: int, *, shifted: bool = False) -> float:
        """Over `count` images, moved by part of a pixel if `shifted`."""
        ...


class Chooser:
    """Makes and unmakes the choices of single stages."""

    def __init__(self, policy: RelaxedPolicy, simple: RelaxedPolicy, mismatch_of: Mismatch) -> None:
        self.policy, self.simple, self.mismatch_of = policy, simple, mismatch_of
        self.made: dict[int, tuple[int, float]] = {}  # stage -> operation and magnitude
        self._gaps: dict[tuple[int, frozenset[tuple[int, tuple[int, float]]]], float] = {}

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

    def _gap(self, count: int) -> float:
        """The mismatch with what is made, over so many images; measured once."""
        key = (count, frozenset(self.made.items()))
        if key not in self._gaps:
            self._gaps[key] = self.mismatch_of(self.policy, count)
        return self._gaps[key]

    def _found(self, name: str) -> tuple[float, float] | None:
        """Raw gate and width in the simple form; None where it was shut there."""
        at = next(i for i, o in enumerate(self.simple.operations) if o.name == name)
        gate, width = (self.simple.raw(part)[0, 0, at].item() for part in ("gate", "width"))
        return (gate, width) if gate > AJAR else None

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
        """The same choices again, by the images: no warp where it is nearly as good.

        A composed warp shares its turn between rotation and shear, and says nothing of it where cells lie at all
        angles. So shapes are chosen without a turn, then a rotation is looked for among all, then shapes given that.
        """
        self.shapes(wanted)
        turning, shaped = self._turning(), dict(self.made)
        shapes = [stage for stage in shaped if self._warping(stage)]
        if shapes and turning:
            # A turn leaves cells as they are: where it does as well as a shape (a shear of long cells is much like
            # one), it is the turn.
            with_shapes = self._gap(_MANY)
            for stage in shapes:
                self.make(stage, None)
            self._turns(turning, wanted)
            if not any(stage in self.made for stage in turning) or is_clear(with_shapes, self._gap(_MANY)):
                for stage in turning + shapes:
                    self.make(stage, shaped.get(stage))
        if not any(stage in self.made for stage in turning):
            self._turns(turning, wanted)
        if any(stage in self.made for stage in turning):
            self.shapes(wanted, turned=True)

    def _turns(self, stages: list[int], wanted: Tensor) -> None:
        for stage in stages:
            turns = [k for k, operation in self._warping(stage) if operation.name == "rotate"]
            options = [choice for _, choice in self._warps(stage, wanted)]
            self._best(stage, options + [(k, float(angle)) for k in turns for angle in _ANGLES], clearly=True)

    def _turning(self) -> list[int]:
        """Stages that can rotate."""
        return [s for s in range(self.policy.stages) if any(o.name == "rotate" for _, o in self._warping(s))]

    def shapes(self, wanted: Tensor, *, turned: bool = False) -> None:
        """Choices of the other stages that warp, by the images; without any turn, unless it is to be kept."""
        turning = self._turning()
        if not turned:
            for stage in turning:
                self.make(stage, None)
        for stage in (s for s in range(self.policy.stages) if self._warping(s) and s not in turning):
            self._best(stage, [choice for _, choice in self._warps(stage, wanted)], clearly=True)

    def _warping(self, stage: int) -> list[tuple[int, Operation]]:
        return self.candidates(stage, "matrix")

    def drop_smoothing(self) -> bool:
        """Take all warps back unless they bring more than interpolation does by itself; whether that was done.

        Any warp smooths the image. Where smoother images are nearer to the target, a turn that cells do not show, or a
        size that hardly changes, would be kept for that alone; a blur can do it, and its strength is learnt. A warp
        that is next to none smooths in places, less than the comparison does, so it is taken back unasked.
        """
        warps = {s: choice for s, choice in self.made.items() if self.policy.operations[choice[0]].matrix is not None}
        if not warps:
            return False
        with_warps, whole = self._gap(_MANY), torch.eye(2)
        for stage, (k, magnitude) in sorted(warps.items()):
            make = self.policy.operations[k].matrix
            assert make is not None  # they have been asked for it
            whole = make(torch.tensor([magnitude]))[0, :2, :2] @ whole
            self.make(stage, None)
        idle = torch.linalg.matrix_norm(whole - torch.eye(2), 2).item() < _IDLE
        if idle or not is_clear(with_warps, self.mismatch_of(self.policy, _MANY, shifted=True)):
            return True
        for stage, choice in warps.items():
            self.make(stage, choice)
        return False

    def texture(self) -> None:
        """The operation that is best alone, at the magnitude that it has in the simple form; none if that is as good.

        Asked when the shapes have come as near as they can alone: a little blur makes up for cells too small.
        """
        for stage in range(self.policy.stages):
            options: list[tuple[int, float]] = []
            for k, operation in self.candidates(stage, "pixels"):
                at = next(i for i, o in enumerate(self.simple.operations) if o.name == operation.name)
                table = self.simple.table()
                if self._found(operation.name) is not None:
                    options.append((k, ((table.low + table.high) / 2)[0, 0, at].item()))
            if options:
                self._best(stage, options, clearly=True)

    def _best(self, stage: int, options: list[tuple[int, float]], *, clearly: bool = False) -> None:
        """Make the best choice, or none where none is better than nothing (clearly better, if asked for)."""
        if not options:
            return
        self.make(stage, None)
        nothing = self._gap(_IMAGES)
        gaps = []
        for option in options:
            self.make(stage, option)
            gaps.append(self._gap(_IMAGES))
        best = min(range(len(gaps)), key=gaps.__getitem__)
        is_kept = is_clear(gaps[best], nothing) if clearly else gaps[best] < nothing - _TOLERANCE
        self.make(stage, options[best] if is_kept else None)

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
