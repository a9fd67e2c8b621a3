"""The search: planted shifts are found again, nothing collapses, runs repeat and stop when they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import measure

from policy_search.relaxed.application import apply
from policy_search.relaxed.catalogue import operations
from policy_search.relaxed.crops import CropSampler, Pair
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.search import Search, SearchDivergedError, SearchSettings, StepReport, search_policy
from policy_search.relaxed.strengths import carries, operation_effects
from policy_search.relaxed.warp import centre
from tests.relaxed.textures import culture, shifted

SMALL = SearchSettings(sub_policies=2, steps=6, warmup=2, batch=4, crop=32, margin=8)


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def source() -> list[Pair]:
    return [culture(seed) for seed in range(6)]


def outcome(policy: RelaxedPolicy, source: list[Pair]) -> tuple[float, float]:
    """What the policy does in all: middle grey comes out at, and lengths are multiplied by (the median over draws).

    By outcome, for brightness and gamma can stand in for each other, and so can scale and two stretches.
    """
    generator = torch.Generator().manual_seed(99)
    image, mask = CropSampler(source).sample(200, 160, generator)
    table = policy.table()
    with torch.no_grad():
        draw = policy.draw(200, generator)
        out, _ = apply(policy, image, mask, generator, fill=0.5, size=96, draw=draw)
        grey = 0.5 + out.mean((1, 2, 3)) - centre(image, 96).mean((1, 2, 3))
        scales = torch.ones(200)
        for i in range(200):
            for stage in range(policy.stages):
                k, p = int(draw.choice[i, stage]), draw.sub_policy[i]
                operation = policy.operations[k]
                is_open = policy.raw("gate")[p, stage, k] + draw.logistic[i, stage, k] > 0
                if operation.matrix is not None and is_open:
                    ends = table.low[p, stage, k][None], table.high[p, stage, k][None]
                    magnitude = operation.draw(*ends, draw.uniform[i, stage, k][None])
                    scales[i] *= torch.linalg.det(operation.matrix(magnitude)[0]).abs().sqrt()
    return grey.mean().item(), scales.median().item()


def test_a_planted_brightness_and_scale_are_found(source: list[Pair]) -> None:
    """Target: other images of the same culture, 64 grey levels brighter and at 0.6 of the size."""
    target = [shifted(culture(10 + seed, size=384), brightness=64, scale=0.6) for seed in range(6)]
    settings = SearchSettings(
        operation_names=("rotate", "scale", "brightness", "contrast", "gamma", "gaussian_noise"),
        sub_policies=4,
        steps=500,
        crop=96,
        margin=36,
    )
    start = outcome(Search(CropSampler(source), None, settings, 0).policy, source)
    assert start == pytest.approx((0.5, 1.0), abs=0.04)
    grey, scale = outcome(search_policy(source, target, settings=settings, seed=0).policy, source)
    assert grey == pytest.approx(0.751, abs=0.03)
    assert scale == pytest.approx(0.6, abs=0.08)


def test_source_mode_keeps_its_floors_at_about_the_distance_asked_and_degrades_nothing_always(
    source: list[Pair],
) -> None:
    settings = SearchSettings(crop=64, margin=24)
    search = Search(CropSampler(source), None, settings, seed=0)
    before = {name: effect.strength for name, effect in operation_effects(even(settings)).items()}
    history = [search.step() for _ in range(settings.warmup + settings.steps)]
    last = history[-settings.steps // 4 :]
    # Spread is kept up (the same image twice would be 0.001), and so is every group and operation that carries one.
    assert np.mean([r.spread for r in last]) > 0.5
    assert settings.distance / 2 < np.mean([r.distance for r in last]) < 1.5 * settings.distance
    effects = operation_effects(search.average)
    for strengths in (*(r.strengths for r in last), search.floors.strengths(search.average)):
        assert set(strengths) == {"pose", "shape", "tone", "texture", "occlusion"}
        assert min(strengths.values()) > 0.99 * settings.floor
    for operation in search.policy.operations:
        if carries(operation):
            assert effects[operation.name].strength > 0.99 * settings.operation_floor * before[operation.name]
    others = [effects[o.name].chance for o in search.policy.operations if not carries(o)]
    assert sum(others) < 1.01 * settings.abrupt
    assert max(effect.chance * effect.constancy for effect in effects.values()) < 0.3
    assert all(np.isfinite(r.critic_loss) and np.isfinite(r.policy_loss) for r in history)


def even(settings: SearchSettings) -> RelaxedPolicy:
    """The policy before learning, without the random offsets."""
    return RelaxedPolicy(
        operations(*settings.operation_names), sub_policies=1, generator=torch.Generator().manual_seed(0), spread=0.0
    )


def test_without_the_constraint_visible_operations_collapse(source: list[Pair]) -> None:
    """The same search with the constraint switched off: brightness and gamma go, of which it keeps a multiple."""
    names = ("brightness", "gamma", "horizontal_flip", "rotate")
    kept = {}
    for constrained in (True, False):
        settings = SearchSettings(
            operation_names=names, steps=120, crop=64, margin=24, distance=6, constrained=constrained
        )
        result = search_policy(source, settings=settings, seed=0)
        kept[constrained] = operation_effects(result.policy)
    before = operation_effects(even(settings))
    for name in ("brightness", "gamma"):
        assert kept[True][name].strength > 0.99 * settings.operation_floor * before[name].strength
        assert kept[True][name].strength > 5 * kept[False][name].strength, name


@pytest.mark.parametrize("real", [None, "masked", "bare"])
def test_cells_as_planes_and_targets_without_masks(real: str | None) -> None:
    cells = [culture(seed, size=96) for seed in range(2)]
    labelled = [(image, measure.label(mask)) for image, mask in cells]
    settings = SMALL.model_copy(update={"instance_channels": True})
    others = {None: None, "masked": labelled, "bare": [(image, None) for image, _ in cells]}[real]
    search = Search(
        CropSampler(labelled, instance_channels=True),
        None if others is None else CropSampler(others, instance_channels=True),
        settings,
        seed=0,
    )
    assert search.critic.masks == (0 if real == "bare" else 5)
    reports = [search.step() for _ in range(4)]
    assert all(np.isfinite(report.policy_loss) for report in reports)


def test_planes_must_be_what_the_settings_say(source: list[Pair]) -> None:
    with pytest.raises(ValueError, match=r"instance_channels is True, and the masks of the source have 1 planes"):
        Search(CropSampler(source), None, SMALL.model_copy(update={"instance_channels": True}), seed=0)


def test_half_precision_gives_nearly_the_same_losses(source: list[Pair]) -> None:
    full, half = (Search(CropSampler(source), None, SMALL, seed=0, amp=amp) for amp in (False, True))
    for _ in range(4):
        first, second = full.step(), half.step()
        assert second.critic_loss != first.critic_loss
        assert second.critic_loss == pytest.approx(first.critic_loss, rel=0.1, abs=0.2)


def test_equal_seeds_give_equal_policies_bit_for_bit(source: list[Pair]) -> None:
    first, again, other = (search_policy(source, settings=SMALL, seed=s) for s in (3, 3, 4))
    assert first.history == again.history
    for name, value in first.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name]), name
    assert first.history != other.history


def test_the_global_generator_is_neither_read_nor_changed(source: list[Pair]) -> None:
    torch.manual_seed(1)
    first = search_policy(source, settings=SMALL, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = search_policy(source, settings=SMALL, seed=3)
    assert first.history == again.history
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("matching", [False, True])
def test_the_state_is_complete(source: list[Pair], matching: bool) -> None:
    """A search that is taken up from its state ends where the uninterrupted one does."""
    sampler = CropSampler(source)
    real = CropSampler(source[:2]) if matching else None
    whole = Search(sampler, real, SMALL, seed=0)
    for _ in range(5):
        whole.step()
    state = whole.state_dict()
    resumed = Search(sampler, real, SMALL, seed=77)
    resumed.load_state_dict(state)
    rest = [resumed.step() for _ in range(3)]
    assert [whole.step() for _ in range(3)] == rest
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_with_step_and_losses(source: list[Pair]) -> None:
    search = Search(CropSampler(source), None, SMALL, seed=0)
    for _ in range(4):
        search.step()
    before = search.policy.raw("choice").detach().clone()
    with torch.no_grad():
        search.critic.score.bias[0] = float("nan")
    with pytest.raises(
        SearchDivergedError, match=r"step 2: critic loss = nan, distance = nan, penalty = .*policy_rate"
    ):
        search.step()
    assert torch.equal(before, search.policy.raw("choice"))


def test_steps_are_reported_and_can_be_stopped(source: list[Pair]) -> None:
    seen: list[StepReport] = []

    def stop(report: StepReport) -> None:
        seen.append(report)
        if report.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_policy(source, settings=SMALL, seed=0, on_step=stop)
    assert [report.step for report in seen] == [-2, -1, 0, 1, 2]
    assert set(seen[-1].strengths) == {"pose", "shape", "tone", "texture", "occlusion"}


def test_the_critic_learns_alone_during_the_warm_up(source: list[Pair]) -> None:
    search = Search(CropSampler(source), None, SMALL, seed=0)
    policy = {n: v.clone() for n, v in search.policy.state_dict().items()}
    critic = search.critic.score.weight.detach().clone()
    search.step()
    assert all(torch.equal(v, policy[n]) for n, v in search.policy.state_dict().items())
    assert not torch.equal(critic, search.critic.score.weight)
    search.step()
    search.step()
    assert not all(torch.equal(v, policy[n]) for n, v in search.policy.state_dict().items())


def test_three_channels_and_the_soft_application_work(source: list[Pair]) -> None:
    colour = [(np.repeat(image[..., None], 3, 2), mask) for image, mask in source]
    settings = SMALL.model_copy(update={"application": "soft", "steps": 2, "operation_names": ("scale", "gamma")})
    result = search_policy(colour, settings=settings, seed=0)
    assert len(result.history) == 4
    assert np.isfinite(result.history[-1].policy_loss)
