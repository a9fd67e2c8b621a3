"""The policy as a whole: what is drawn, what is learnt from, what is shown."""

from __future__ import annotations

import pytest
import torch

from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import CATALOGUE, operations
from policy_search.relaxed.operations import PLAN, Group, free_plan, simple_plan
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


@pytest.mark.parametrize(("plan", "application"), [(PLAN, "fused"), (PLAN, "soft"), (free_plan(2), "soft")])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_pairs_are_what_a_detector_would_read(plan: object, application: str, channels: int) -> None:
    policy, (image, mask) = make(operations=operations(), plan=plan), batch(6, channels)
    seed = torch.Generator().manual_seed(1)
    out, cells = apply(policy, image, mask, seed, fill=0.4, size=48, application=application)  # type: ignore[arg-type]
    assert out.shape == (6, channels, 48, 48)
    assert cells.shape == (6, 1, 48, 48)
    assert 0 <= out.min() <= out.max() <= 1
    assert (out * 255 - (out * 255).round()).abs().max() < 1e-3
    assert ((cells == 0) | (cells == 1)).all()


def test_only_the_generator_decides() -> None:
    policy, (image, mask) = make(operations=operations()), batch(4)
    first, again, other = (apply(policy, image, mask, torch.Generator().manual_seed(s), fill=0.5)[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_have_the_learnt_frequencies() -> None:
    policy = make(sub_policies=2)
    table = policy.table()
    draw = policy.draw(20000, torch.Generator().manual_seed(0), sub_policy=torch.ones(20000, dtype=torch.int64))
    frequency = torch.nn.functional.one_hot(draw.choice, len(CATALOGUE)).float().mean(0)
    assert (frequency - table.weight[1]).abs().max() < 0.015
    is_open = (policy.raw("gate")[draw.sub_policy] + draw.logistic > 0).float().mean(0)
    assert (is_open - table.gate[1]).abs().max() < 0.015


@pytest.mark.parametrize("count", [1, 3])
def test_a_simple_plan_has_one_stage_for_every_operation(count: int) -> None:
    names = ("rotate", "gamma", "gaussian_noise")[:count]
    policy = make(operations=operations(*names), plan=simple_plan(names))
    assert policy.stages == count
    assert torch.equal(policy.allowed, torch.eye(count, dtype=torch.bool))
    assert torch.equal(policy.table().weight, torch.eye(count).expand(3, -1, -1))


def test_a_policy_may_start_at_the_identity() -> None:
    """Nearly: what has a range rests at its identity behind an open gate, what has none is shut."""
    table = make(operations=operations(), start="identity", spread=0.0, sub_policies=1).table()
    for k, operation in enumerate(operations()):
        span, (gate, low, high) = operation.magnitude, (entry[0, 0, k].item() for entry in table[1:])
        if span is None or not operation.rests:
            assert gate < 0.05, operation.name
            continue
        rest = min(max(operation.identity, span.low), span.high) if span.rest is None else span.rest
        assert gate > 0.99
        assert max(abs(low - rest), abs(high - rest)) < 0.02 * (span.high - span.low), operation.name


def test_the_table_can_be_read() -> None:
    text = repr(make(operations=operations("scale", "horizontal_flip")))
    assert "3 sub-policies x 2 stages x 2 operations" in text
    assert "horizontal_flip" in text
    (line,) = [line for line in text.splitlines() if "scale" in line]
    assert line.split()[:3] == ["2", "scale", "1.000"]
