"""What a search says of itself: one line at its start, and the policy file with its provenance at its end."""

from __future__ import annotations

from collections.abc import Mapping

from policy_search.augment import PolicyDocument, Provenance
from policy_search.config import SearchConfig
from policy_search.relaxed.export import export_policy
from policy_search.relaxed.search import SearchResult
from policy_search.relaxed.sized import with_sizes
from policy_search.search_data import SearchData


def describe(data: SearchData) -> str:
    kind = " (synthetic)" if data.source.synthetic else ""
    images = f"{_images(len(data.samples), 'with labels')} of {data.source.name}{kind}"
    if not data.target:
        return f"source mode: {images}"
    return f"target mode: {images}, {_images(len(data.target), 'without')} of {', '.join(data.targets)}"


def _images(count: int, labels: str) -> str:
    return f"{count} image{'' if count == 1 else 's'} {labels}"


def document_of(
    result: SearchResult, config: SearchConfig, data: SearchData, sizes: Mapping[str, float]
) -> PolicyDocument:
    """The policy with its provenance: nothing in it that two equal runs would not share."""
    from policy_search.study.provenance import versions  # loads Optuna, which only the end needs

    provenance = Provenance.model_validate(
        {
            "name": "searched",
            "family": "searched",
            "data": config.data,
            "fingerprint": data.fingerprint,
            "synthetic": data.source.synthetic,
            "seed": config.seed,
            "mode": "target" if data.target else "source",
            "targets": list(data.targets),
            "images": len(data.samples),
            "target_images": len(data.target),
            **({"sizes": dict(sizes)} if sizes else {}),
            "settings": {**config.identity(), "engine": result.settings.model_dump(mode="json")},
            "versions": versions(),
        }
    )
    found = export_policy(result, provenance, images=[sample.image for sample in data.samples])
    if not sizes:
        return found
    whole = with_sizes(found, tuple(sizes.values()), fill=result.statistics.median)
    return PolicyDocument(whole.transform, found.provenance)
