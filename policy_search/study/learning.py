"""A searched trial's policy: the inner search with the trial's knobs, exported."""

from __future__ import annotations

import math
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
    # Searched on crops; an image gets as many holes per area, and light as steep per pixel.
    ratio = sum(sample.image.shape[0] * sample.image.shape[1] for sample in train) / len(train) / settings.crop**2
    return export_policy(result, holes=max(1, round(ratio)), extent=math.sqrt(ratio))
