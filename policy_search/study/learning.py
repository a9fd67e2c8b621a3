"""A searched trial's policy: the inner search with the trial's knobs, exported."""

from __future__ import annotations

from collections.abc import Sequence

from policy_search.relaxed.export import export_policy
from policy_search.relaxed.search import SearchSettings, search_policy
from policy_search.study.data import foreground_pairs
from policy_search.study.making import Learnt
from policy_search.study.probe import ProbeSample
from policy_search.study.space import Knobs


def learn_policy(train: Sequence[ProbeSample], knobs: Knobs, *, steps: int, seed: int) -> Learnt:
    """Search a policy on the training images alone: widest spread within the critic's distance (design 5.5).

    Raises:
        SearchDivergedError: a loss is not finite.
        DataError: the images cannot be used.
    """
    settings = SearchSettings(
        steps=steps,
        sub_policies=knobs.sub_policies,
        distance=knobs.distance,
        floor=knobs.floor,
        variety=knobs.variety,
    )
    result = search_policy(foreground_pairs(train), None, settings=settings, seed=seed)
    document = export_policy(result, images=[sample.image for sample in train])
    # The warm-up, in which the critic learns alone, has no spread yet.
    steps_made = [r for r in result.history if r.step >= 0]
    return Learnt(
        document,
        {
            "search: critic distance": tuple(r.distance for r in steps_made),
            "search: spread": tuple(r.spread for r in steps_made),
        },
    )
