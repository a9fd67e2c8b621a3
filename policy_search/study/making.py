"""From a proposal to a policy: finished, learnt by the inner search, or made of the sub-policies of a learnt one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import FrozenTrial

from policy_search.augment import PolicyDocument
from policy_search.study.data import StudyData
from policy_search.study.report import ordered, row_of
from policy_search.study.space import SEARCHED, Knobs, Proposal, TargetKnobs
from policy_search.study.stored_policies import get_policy
from policy_search.study.verdict import Direction


@dataclass(frozen=True)
class Learnt:
    """A learnt policy, and what the search reported step by step: name -> values."""

    document: PolicyDocument
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


# (training data, knobs, steps, seed) -> the learnt policy
Learn = Callable[[StudyData, Knobs | TargetKnobs, int, int], Learnt]


@dataclass(frozen=True)
class Made:
    """A policy that can be scored.

    Attributes:
        document: the policy, with name and family in its provenance.
        losses: of the search it took, if it took one.
        over: slot of the searched policy that it is built over; None where it is not, or where one was learnt for it.
    """

    document: PolicyDocument
    losses: Mapping[str, tuple[float, ...]]
    over: int | None


def make_policy(
    proposal: Proposal,
    slot: int,
    seen: Mapping[int, FrozenTrial],
    *,
    data: StudyData,
    learn: Learn,
    steps: int,
    seed: int,
    directions: Sequence[Direction],
) -> Made:
    """Make the policy that a slot proposes.

    Args:
        proposal: of `slot`.
        slot: seeds the search of a searched policy.
        seen: finished slots that `slot` may know of: a policy over sub-policies takes those of the best searched one.
        data: training data.
        learn: the inner search.
        steps: of it, in source mode.
        seed: of the study.
        directions: of the study.
    """
    losses: Mapping[str, tuple[float, ...]] = {}
    over = None
    if proposal.document is not None:
        document = proposal.document
    elif proposal.knobs is not None:
        learnt = learn(data, proposal.knobs, steps, search_seed(seed, slot))
        document, losses = learnt.document, learnt.losses
    elif proposal.over is not None:
        over = best_searched(seen, directions)
        if over is None:  # all searched policies so far failed or were given up
            learnt = learn(data, Knobs(), steps, search_seed(seed, slot))
            blocks, losses = learnt.document, learnt.losses
        else:
            blocks = get_policy(seen[over])
        document = proposal.over.document(blocks)
    else:
        raise ValueError(f"proposal {proposal.name} says nothing of its policy")
    return Made(document.with_provenance(name=proposal.name, family=proposal.family), losses, over)


def best_searched(seen: Mapping[int, FrozenTrial], directions: Sequence[Direction]) -> int | None:
    """The slot of the best policy with a score that a search has found, in whatever mode; None where there is none."""
    rows = [row_of(trial) for trial in seen.values()]
    found = ordered([row for row in rows if row.family in SEARCHED and row.values], directions)
    return found[0].number if found else None


def search_seed(seed: int, slot: int) -> int:
    """Seed of the inner search in a slot."""
    return int(np.random.SeedSequence([seed, 0, slot]).generate_state(1)[0])
