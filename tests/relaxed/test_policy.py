"""The policy as a whole: what is drawn, what is learnt from, what is shown."""

from __future__ import annotations

import pytest
import torch

from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import PLAN, Group, free_plan
from policy_search.relaxed.policy import RelaxedPolicy
from tests.relaxed.textures import culture


def batch(count: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [culture(seed, size=64) for seed in range(count)]
    image = torch.stack([torch.from_numpy(image)[None] for image, _ in pairs]).float() / 255
    return image.expand(-1, channels, -1, -1).clone(), torch.stack(
        [torch.from_numpy(m)[None] for _, m in pairs]
    ).float()


def make(seed: int = 0, **keywords: object) -> RelaxedPolicy:
    defaults: dict[str, object] = {"sub_policies": 3, "generator": torch.Generator().manual_seed(seed), "spread": 1.0}
    return RelaxedPolicy(keywords.pop("operations", CATALOGUE), **{**defaults, **keywords})  # type: ignore[arg-type]


def test_weights_follow_the_plan_and_sum_to_one() -> None:
    table = make().table()
    assert table.weight.shape == (3, 4, len(CATALOGUE))
    assert torch.allclose(table.weight.sum(-1), torch.ones(3, 4))
    for stage, groups in enumerate(PLAN):
        outside = [k for k, operation in enumerate(CATALOGUE) if operation.group not in groups]
        assert table.weight[:, stage, outside].max() == 0


def test_stages_without_an_operation_are_left_out() -> None:
    assert make(operations=operations("scale", "gamma")).stages == 2
    with pytest.raises(ValueError, match="stage with an operation"):
        make(operations=operations("scale"), plan=((Group.TONE,),))


@pytest.mark.parametrize("application", ["sampled", "soft"])
@pytest.mark.parametrize("plan", [PLAN, free_plan(2)], ids=["plan", "free"])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_pairs_are_what_a_detector_would_read(plan: object, application: str, channels: int) -> None:
    policy, (image, mask) = make(plan=plan), batch(6, channels)
    out = policy(image, mask, torch.Generator().manual_seed(1), fill=0.5, size=48, application=application)
    assert out.image.shape == (6, channels, 48, 48)
    assert out.mask.shape == (6, 1, 48, 48)
    assert 0 <= out.image.min() <= out.image.max() <= 1
    assert ((out.mask == 0) | (out.mask == 1)).all()


def test_only_the_generator_decides() -> None:
    policy, (image, mask) = make(), batch(4)
    first, again, other = (policy(image, mask, torch.Generator().manual_seed(s), fill=0.5).image for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("plan", [PLAN, free_plan(2)], ids=["plan", "free"])
def test_soft_and_sampled_have_the_same_value(plan: object) -> None:
    """Without noise and cutout, which draw within; warps are put off in one and not in the other, so nearly so."""
    chosen = [o for o in CATALOGUE if o.name not in ("gaussian_noise", "cutout")]
    policy, (image, mask) = make(operations=chosen, plan=plan), batch(8)
    draw = policy.draw(8, torch.Generator().manual_seed(3))
    outs = [
        policy(image, mask, torch.Generator().manual_seed(0), fill=0.5, application=a, draw=draw)
        for a in ("sampled", "soft")
    ]
    assert (outs[0].image - outs[1].image).abs().mean() < 0.01
    assert (outs[0].mask != outs[1].mask).float().mean() < 0.02


@pytest.mark.parametrize("application", ["sampled", "soft"])
def test_gradient_reaches_every_learnt_parameter(application: str) -> None:
    policy, (image, mask) = make(sub_policies=1, spread=0.0), batch(128)
    # Stretched to all grey levels: nothing faint is ever solarised.
    image = (((image - 0.5) * 6 + 0.5).clamp(0, 1) * 255).round() / 255
    out = policy(image, mask, torch.Generator().manual_seed(0), fill=0.5, application=application)
    # A loss that knows places, as a mirror image has the same sum.
    ramp = torch.linspace(0, 1, 64)[:, None] * torch.linspace(0.5, 2, 64)
    ((out.image - 0.3).square() * ramp + out.mask * ramp).sum().backward()
    with_magnitude = torch.tensor([operation.magnitude is not None for operation in CATALOGUE])
    for name in ("gate", "centre", "width"):
        gradient = policy.base[name].grad
        assert torch.isfinite(gradient).all()
        reached = gradient != 0
        assert reached.all() if name == "gate" else torch.equal(reached, with_magnitude), name
    choice = policy.base["choice"].grad
    assert torch.equal(choice != 0, policy.allowed)


def test_draws_have_the_learnt_frequencies() -> None:
    policy = make(sub_policies=2)
    table = policy.table()
    draw = policy.draw(20000, torch.Generator().manual_seed(0), sub_policy=torch.ones(20000, dtype=torch.int64))
    frequency = torch.nn.functional.one_hot(draw.choice, len(CATALOGUE)).float().mean(0)
    assert (frequency - table.weight[1]).abs().max() < 0.015
    is_open = (policy.raw("gate")[draw.sub_policy] + draw.logistic > 0).float().mean(0)
    assert (is_open - table.gate[1]).abs().max() < 0.015


def test_the_choice_gradient_is_that_of_the_expected_loss() -> None:
    """Brightness by two fixed amounts under a linear loss: the first-order gradient is exact, so its mean must be."""
    policy = make(operations=operations("brightness", "invert"), sub_policies=1, gate=0.999999, spread=0.0)
    with torch.no_grad():
        policy.base["width"][:] = -30.0  # both ends meet
        policy.base["centre"][:] = 1.0  # brightness -0.4 + 0.8 * sigmoid(1) = 0.185
    image, mask = torch.full((4000, 1, 2, 2), 51 / 255), torch.zeros(4000, 1, 2, 2)
    out = policy(image, mask, torch.Generator().manual_seed(0), fill=0.5)
    (found,) = torch.autograd.grad(out.image.mean(), policy.base["choice"])
    # Outputs .385 and .8 at weights 1/2: d/d(logit) of the expectation is w1 * w2 * (.385 - .8).
    assert found[0].tolist() == pytest.approx([-0.1038, 0.1038], rel=0.05)


def test_the_table_can_be_read() -> None:
    text = repr(make(operations=operations("scale", "horizontal_flip")))
    assert "3 sub-policies x 2 stages x 2 operations" in text
    assert "horizontal_flip" in text
    (line,) = [line for line in text.splitlines() if "scale" in line]
    assert line.split()[:3] == ["2", "scale", "1.000"]
