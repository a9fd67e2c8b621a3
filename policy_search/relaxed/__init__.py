"""How a policy is learnt: relaxed operations, a critic, the search, and the export to Albumentations."""

import policy_search.augment  # noqa: F401  # first: it decides how Albumentations is loaded
from policy_search.relaxed.catalogue import CATALOGUE
from policy_search.relaxed.crops import CropSampler, PairSampler
from policy_search.relaxed.export import export_policy, to_compose
from policy_search.relaxed.operations import PLAN, Group, Operation, free_plan, simple_plan
from policy_search.relaxed.policy import RelaxedPolicy
from policy_search.relaxed.search import (
    Search,
    SearchDivergedError,
    SearchResult,
    SearchSettings,
    StepReport,
    search_policy,
)
from policy_search.relaxed.target import TargetSearch, TargetSettings, search_target

__all__ = [
    "CATALOGUE",
    "PLAN",
    "CropSampler",
    "Group",
    "Operation",
    "PairSampler",
    "RelaxedPolicy",
    "Search",
    "SearchDivergedError",
    "SearchResult",
    "SearchSettings",
    "StepReport",
    "TargetSearch",
    "TargetSettings",
    "export_policy",
    "free_plan",
    "search_policy",
    "search_target",
    "simple_plan",
    "to_compose",
]
