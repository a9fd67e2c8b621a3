"""One draw of a policy's choices: its tree without the branches that are not taken.

A searched policy has hundreds of branches and takes one in each step. To build all of them for a handful of draws costs
more than the draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policy_search.augment import PolicyDocument

_IN_SEQUENCE = ("Compose", "Sequential")


def taken_branches(document: PolicyDocument, rng: np.random.Generator) -> PolicyDocument:
    """A document in which every `OneOf` is replaced by one of its children, drawn with the children's weights.

    Applied once for each drawn document, this is the policy: `OneOf` draws a child by its `p` and applies it for
    certain, and the gate of the `OneOf` itself stays.
    """
    return PolicyDocument(_taken(document.transform, rng), document.provenance)


def _taken(node: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    name = node["__class_fullname__"].rsplit(".", 1)[-1]
    children = node.get("transforms")
    if not isinstance(children, list):
        return node
    if name == "OneOf":
        weights = np.array([child["p"] for child in children], np.float64)
        child = _taken(children[int(rng.choice(len(children), p=weights / weights.sum()))], rng)
        return {"__class_fullname__": "Sequential", "p": node["p"], "transforms": [{**child, "p": 1.0}]}
    if name in _IN_SEQUENCE:
        return {**node, "transforms": [_taken(child, rng) for child in children]}
    return node  # other containers draw by rules of their own
