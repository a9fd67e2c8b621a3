"""The policies that trials learn: the inner search with a trial's knobs, in source or in target mode, exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from policy_search.relaxed.export import export_policy
from policy_search.relaxed.search import SearchSettings, search_policy
from policy_search.relaxed.sized import resized, with_sizes, without_size
from policy_search.relaxed.target import TargetSettings, search_target
from policy_search.study.data import StudyData, foreground_pairs
from policy_search.study.making import Learnt
from policy_search.study.probe import ProbeSample
from policy_search.study.sizes import ask, train_networks
from policy_search.study.space import Knobs, TargetKnobs


@dataclass
class Learner:
    """See `making.Learn`.

    Attributes:
        seed: of the networks that recognise sizes; the study's, so that every worker has the same.
        recognise_steps: training of each of them; 0: size is left to the statistics, like the rest.
        target_steps: of a search in target mode.
        tell: is given a line when sizes are recognised, which takes a while.
    """

    seed: int
    recognise_steps: int
    target_steps: int
    tell: Callable[[str], None] = lambda line: None
    _sizes: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)

    def __call__(self, data: StudyData, knobs: Knobs | TargetKnobs, steps: int, seed: int) -> Learnt:
        if isinstance(knobs, Knobs):
            return learn_policy(data.train, knobs, steps=steps, seed=seed)
        known = self.recognise_steps > 0
        return learn_targeted(
            data, knobs, sizes=self._sizes_in(data) if known else None, steps=self.target_steps, seed=seed
        )

    def _sizes_in(self, data: StudyData) -> dict[str, float]:
        """Target type -> size of its cells, in those of the source; recognised once."""
        if data.fingerprint not in self._sizes:
            networks = train_networks(data.train, seed=self.seed, steps=self.recognise_steps)
            found = ask(networks, [sample.image for sample in data.train], data.targets)
            sizes = {name: one.size for name, one in found.by_target.items()}
            self.tell(f"size of the cells, in the source's: {', '.join(f'{n} {s:.2f}' for n, s in sizes.items())}")
            self._sizes[data.fingerprint] = sizes
        return self._sizes[data.fingerprint]


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


def learn_targeted(
    data: StudyData, knobs: TargetKnobs, *, sizes: Mapping[str, float] | None, steps: int, seed: int
) -> Learnt:
    """Search the policy that makes the source look like the targets, which are matched as one mixture.

    Args:
        data: with target images; their labels are not there.
        knobs: see `TargetKnobs`.
        sizes: target type -> size of its cells, in those of the source; None: the search finds out what the
            statistics tell.
        steps: of the search.
        seed: of the search.

    Raises:
        SearchDivergedError: a loss is not finite.
    """
    settings = TargetSettings(
        operation_names=() if sizes is None else without_size(()), sub_policies=knobs.sub_policies, steps=steps
    )
    pairs = foreground_pairs(data.train)
    targets = [image for images in data.targets.values() for image in images]
    source = pairs if sizes is None else resized(pairs, tuple(sizes.values()))
    result = search_target(source, targets, settings=settings, seed=seed)
    matched = export_policy(result, images=[sample.image for sample in data.train])
    known = tuple(sizes.values()) if sizes else (1.0,)
    document = with_sizes(matched, known, fill=result.statistics.median, share=knobs.share, spread=knobs.spread)
    document = document.with_provenance(targets=list(data.targets), **({"sizes": dict(sizes)} if sizes else {}))
    return Learnt(document, {"search: distance to the targets": tuple(r.distance for r in result.history)})
