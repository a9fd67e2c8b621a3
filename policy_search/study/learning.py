"""A searched trial's policy: the inner search with the trial's knobs, exported."""

from __future__ import annotations

from collections.abc import Sequence

from policy_search.augment import PolicyDocument
from policy_search.relaxed.export import export_policy
from policy_search.relaxed.search import SearchSettings, search_policy
from policy_search.study.data import foreground_pairs
from policy_search.study.probe import ProbeSample
from policy_search.study.space import Knobs


def learn_policy(train: Sequence[ProbeSample], knobs: Knobs, *, steps: int, seed: int) -> PolicyDocument:
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
    return export_policy(result, images=[sample.image for sample in train])
