"""Learn augmentation policies that carry a cell-segmentation model over to cell types nobody labelled.

    import policy_search
    outcome = policy_search.search("A172", root="LIVECell_dataset_2021", out="runs/a172")
    policy = policy_search.load_policy("runs/a172/best.json").compose()

Names are loaded when first used: reading a policy needs neither torch nor optuna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy_search.augment import load_policy
    from policy_search.study.api import search

__version__ = "0.1.0"
__all__ = ["load_policy", "search"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        from policy_search.augment import load_policy

        return load_policy
    if name == "search":
        from policy_search.study.api import search

        return search
    raise AttributeError(f"module 'policy_search' has no attribute {name!r}")
