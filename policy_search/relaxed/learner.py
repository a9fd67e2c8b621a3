"""One stretch of target-mode learning: policy parameters moved until the moments of its images meet the target's.

Plain Adam moves every parameter by the same amount a step, whether that changes the image by a hundredth of a
deviation or by fifty: while brightness is being found, everything else drifts on its noise. So steps are measured in
what they do to the statistics. Rates are limited to a stated reach, from each parameter's sensitivity; and the
magnitudes of tone and texture, whose effects overlap (contrast, blur and sharpening all move the energies), take damped
Gauss-Newton steps. Geometry does not: what a warp draws into the crop makes its Jacobian too noisy.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from policy_search.relaxed.application import apply
from policy_search.relaxed.moments import MomentCritic
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.pool import Batch
from policy_search.relaxed.warp import translation

_MOMENTUM, _SECOND = 0.8, 0.95  # of Adam; a long momentum would overshoot, as the critic's moments lag already
_FORGET = 0.97  # of the Gauss-Newton matrix, a running average over steps
_DAMPING, _FLOOR = 0.1, 0.05  # Levenberg-Marquardt: of the diagonal, and absolute
_GAUSS_NEWTON = 0.15  # share of the full step: the critic's moments lag by a few steps
_LARGEST = 0.15  # raw units: the most that a Gauss-Newton step changes a magnitude
_PATIENCE = 8  # steps before the Gauss-Newton matrix is used
_AVERAGE = 0.97
# Pull of a warp's raw magnitude to where it began, per unit of distance, in units of the mismatch: too weak to bend
# what the images show, but what they cannot show (an angle, where cells lie at all angles) must not wander.
_TETHER = 0.1


class Learner:
    """A policy on its way, with all state of the optimiser.

    Args:
        policy: changed in place.
        critic: fresh; on the policy's device, where everything is computed.
        fill: of warps, in [0, 1].
        size: side of the crops that the critic sees.
        rate: largest change of a raw parameter a step.
        reach: largest change of the statistics a step, in whitened deviations, that one parameter may cause.
        offset_share: learning rate of the sub-policies' offsets, of the base's.
        choice_share: of the choices, of the others'.
        shifted: move the crops by a random part of a pixel as they are warped. Interpolation smooths every image that
            is warped at all, which is a wall around "no warp" that no gradient leads over; this puts both sides of the
            wall on one level.
        only: names of the operations that learn; all when None.
    """

    def __init__(
        self,
        policy: RelaxedPolicy,
        critic: MomentCritic,
        *,
        fill: float,
        size: int,
        rate: float,
        reach: float,
        offset_share: float,
        choice_share: float,
        shifted: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        self.policy, self.critic = policy, critic
        self.fill, self.size, self.rate, self.reach, self.shifted = fill, size, rate, reach, shifted
        operations = policy.operations
        device = policy.base["centre"].device
        self._learns = torch.tensor([float(only is None or o.name in only) for o in operations], device=device)
        self._newton = torch.tensor(
            [float(o.matrix is None and o.magnitude is not None) for o in operations], device=device
        )
        self._newton *= self._learns
        self._parameters = [p for group in (policy.base, policy.offset) for p in group.values()]
        self._centre = list(policy.base).index("centre")
        self._shares = [
            share * (choice_share if name == "choice" else 1.0)
            for group, share in ((policy.base, 1.0), (policy.offset, offset_share))
            for name in group
        ]
        self.average = copy.deepcopy(policy).requires_grad_(False)
        spans = [o.magnitude if o.rests else None for o in operations]
        self._begun = torch.tensor(
            [0.0 if span is None else span.raw_centre(span.identity) for span in spans], device=device
        )
        zeros = [torch.zeros_like(p) for p in self._parameters]
        self.state: dict[str, Any] = {
            "step": 0,
            "rates": None,
            "momentum": zeros,
            "second": [z.clone() for z in zeros],
            "matrix": torch.zeros(len(operations), len(operations), device=device),
        }

    def step(self, batch: Batch, before: Tensor, generator: torch.Generator, share: float) -> tuple[float, float]:
        """One step on source crops; returns mean cost and mismatch.

        Args:
            batch: with context around the middle `size`.
            before: (B, D), the crops' whitened statistics.
            generator: all randomness.
            share: of the rates, for a schedule.
        """
        state = self.state
        if state["rates"] is None:
            state["rates"] = self._calibrate(batch, generator)
        cost, gap, seen = self.critic(self._augment(batch, generator), before)
        mean = seen.mean(0)
        signs = self._signs(mean, generator) * self.critic.weight.sqrt()
        (probe,) = torch.autograd.grad((mean * signs).sum(), [self.policy.base["centre"]], retain_graph=True)
        centres = self.policy.base["centre"]
        tether = 0.5 * _TETHER * ((1 - self._newton) * (centres - self._begun).square()).sum()
        gradients = torch.autograd.grad(cost.mean() + tether, self._parameters)
        # The one transfer of a step.
        found, mismatch = torch.stack([cost.detach().mean(), gap]).tolist()
        if math.isfinite(found) and math.isfinite(mismatch):
            self._update(probe, gradients, share)
        return found, mismatch

    @torch.no_grad()
    def _update(self, probe: Tensor, gradients: tuple[Tensor, ...], share: float) -> None:
        state, step = self.state, self.state["step"]
        state["matrix"] = _FORGET * state["matrix"] + (1 - _FORGET) * torch.outer(probe, probe)
        self._adam(gradients, share)
        if step >= _PATIENCE:
            self._gauss_newton(gradients[self._centre], share)
        decay = min(_AVERAGE, step / (step + 10))
        for kept, now in zip(self.average.parameters(), self.policy.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)
        state["step"] = step + 1

    def _augment(self, batch: Batch, generator: torch.Generator) -> Tensor:
        shift, (image, mask, _) = None, batch
        if self.shifted:
            place = torch.rand(len(image), 2, generator=generator, device=image.device) - 0.5
            shift = translation(place[:, 0], place[:, 1])
        # The masks are not looked at.
        return apply(
            self.policy, image, mask, generator, fill=self.fill, size=self.size, shift=shift, mask_gradient=False
        )[0]

    @staticmethod
    def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
        """Random signs: the variance of a gradient projected on them is the squared norm of its Jacobian."""
        return torch.randint(0, 2, like.shape, generator=generator, device=like.device).to(like.dtype) * 2 - 1

    def _calibrate(self, batch: Batch, generator: torch.Generator, draws: int = 8) -> list[Tensor]:
        """Rates of all parameters: `reach` over the sensitivity of the mean statistics, `rate` at the most."""
        squares = [torch.zeros_like(p) for p in self._parameters]
        for _ in range(draws):
            seen = self._augment(batch, generator)
            whitened = (self.critic.statistics(seen) @ self.critic.known.whiten).mean(0)
            found = torch.autograd.grad((whitened * self._signs(whitened, generator)).sum(), self._parameters)
            for square, gradient in zip(squares, found, strict=True):
                square += gradient.square() / draws
        return [
            share * torch.clamp(self.reach / (square.sqrt() + 1e-9), max=self.rate) * self._learns
            for share, square in zip(self._shares, squares, strict=True)
        ]

    def _adam(self, gradients: tuple[Tensor, ...], share: float) -> None:
        state, count = self.state, self.state["step"] + 1
        for i, (parameter, gradient) in enumerate(zip(self._parameters, gradients, strict=True)):
            momentum, second = state["momentum"][i], state["second"][i]
            momentum.mul_(_MOMENTUM).add_(gradient, alpha=1 - _MOMENTUM)
            second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            size = momentum / (1 - _MOMENTUM**count) / ((second / (1 - _SECOND**count)).sqrt() + 1e-8)
            rates = state["rates"][i] * (1 - self._newton) if i == self._centre else state["rates"][i]
            parameter.sub_(share * rates * size)

    def _gauss_newton(self, gradient: Tensor, share: float) -> None:
        weight = 1 - _FORGET ** (self.state["step"] + 1)
        matrix = self.state["matrix"] / weight
        matrix = matrix + torch.diag(_DAMPING * matrix.diagonal() + _FLOOR)
        inside = self._newton[:, None] * self._newton
        matrix = matrix * inside + torch.diag(1 - self._newton)
        change = _GAUSS_NEWTON * share * torch.linalg.solve_ex(matrix, gradient * self._newton).result
        self._parameters[self._centre].sub_(change.clamp(-_LARGEST * share, _LARGEST * share))

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that `step` reads or changes."""
        return copy.deepcopy(
            {
                "policy": self.policy.state_dict(),
                "average": self.average.state_dict(),
                "critic": self.critic.state_dict(),
                **self.state,
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        state, device = copy.deepcopy(state), self.policy.base["centre"].device
        for name in ("policy", "average", "critic"):
            getattr(self, name).load_state_dict(state.pop(name))
        lists = ("rates", "momentum", "second")
        self.state = {
            "step": state["step"],
            "matrix": state["matrix"].to(device),
            **{name: None if state[name] is None else [t.to(device) for t in state[name]] for name in lists},
        }
