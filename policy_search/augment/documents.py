"""Policy documents: plain Albumentations JSON with our provenance beside the transform, read strictly.

Layout of a file (design 4.1): `{"__version__": "2.0.8", "transform": {…}, "policy_search": {provenance}}`.
`albumentations.load` reads the first two keys and ignores the third.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import albumentations as A
from albumentations.core.serialization import SERIALIZABLE_REGISTRY, shorten_class_name
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policy_search.augment.document_checks import FORMAT_VERSION, PROVENANCE_KEY, check_frame, check_transform
from policy_search.augment.policy_json import check_plain, read_policy_json, readable
from policy_search.cells.errors import PolicyError
from policy_search.cells.files import write_json

SCHEMA = 1
_MAX_NAME = 255  # characters; no file's name is longer


class Provenance(BaseModel):
    """Where a policy comes from. Everything is optional; further keys are kept.

    Attributes:
        schema_version: version of this block.
        name: what tables call the policy.
        family: naive, searched, stacked or choice.
        data, fingerprint: the dataset it was learnt on and the digest of its contents.
        synthetic: whether that dataset is the demo culture.
        seed, study, trial, score: how it was found and what the study measured.
        versions: package → version.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = SCHEMA
    name: Annotated[str, Field(max_length=_MAX_NAME)] = ""
    family: str = ""
    data: str | None = None
    fingerprint: str | None = None
    synthetic: bool | None = None
    seed: int | None = None
    study: str | None = None
    trial: int | None = None
    score: float | None = None
    created: str | None = None
    versions: dict[str, str] | None = None


@dataclass(frozen=True)
class PolicyDocument:
    """A policy: the serialised transform in canonical form, and its provenance.

    Attributes:
        transform: content of the file's `transform` key, as Albumentations 2.0.8 writes it.
        provenance: not part of the content hash.
    """

    transform: dict[str, Any]
    provenance: Provenance

    @classmethod
    def from_compose(cls, compose: A.BaseCompose, provenance: Provenance | None = None) -> PolicyDocument:
        """The document of a transform built in Python. Raises PolicyError if it cannot be read back unchanged."""
        written = _written(compose, "policy")
        return cls.from_dict({"__version__": FORMAT_VERSION, "transform": written}, provenance=provenance)

    @classmethod
    def from_dict(cls, content: Any, *, source: str = "policy", provenance: Provenance | None = None) -> PolicyDocument:
        """Check a parsed file and make it canonical.

        Args:
            content: the parsed JSON.
            source: named in error messages, usually the file.
            provenance: replaces the block in the file.

        Raises:
            PolicyError: names source, key and remedy.
        """
        check_frame(content, source)
        if provenance is None:
            try:
                provenance = Provenance.model_validate(content.get(PROVENANCE_KEY) or {})
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join([PROVENANCE_KEY, *map(str, first["loc"])])
                raise PolicyError(f"{source}: key {key}: {first['msg']}. Remove the key or mend it.") from None
        given = content["transform"]
        check_transform(given, source)
        written = _written(_build(given, source), source)
        if _text(written) != _text(given):  # what stands in a file as we write it was read back when it was written
            # Twice, because at first 0 may stay 0 and become 0.0 when it is read back: another hash.
            once, written = written, _written(_build(written, source), source)
            check_transform(written, source)  # with the defaults and bounds that Albumentations has put in
            if written != once:
                raise PolicyError(
                    f"{source}: Albumentations {FORMAT_VERSION} reads this policy, but not what it writes of it"
                )
        return cls(written, provenance)

    @property
    def name(self) -> str:
        """What tables call it: the provenance's name, else the content hash."""
        return self.provenance.name or self.content_hash

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over the transform alone: equal behaviour, equal hash, whatever the provenance says."""
        return hashlib.sha256(_text(self.transform).encode()).hexdigest()[:16]

    @cached_property
    def needs_donor(self) -> bool:
        """Whether it pastes cells and so needs another image with each call."""
        return "CopyPaste" in json.dumps(self.transform)

    def compose(self) -> A.BaseCompose:
        """A fresh Albumentations transform. For per-sample seeding use `Augmenter`."""
        return _build(self.transform, self.name)

    def to_dict(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "__version__": FORMAT_VERSION,
            "transform": self.transform,
            PROVENANCE_KEY: self.provenance.model_dump(exclude_none=True),
        }

    def save(self, path: str | Path) -> None:
        """Write the file in one step."""
        write_json(path, self.to_dict())

    def with_provenance(self, **changes: Any) -> PolicyDocument:
        """The same policy with some provenance keys set."""
        return PolicyDocument(
            self.transform, Provenance.model_validate({**self.provenance.model_dump(exclude_none=True), **changes})
        )


def load_policy(path: str | Path) -> PolicyDocument:
    """Read a policy file, or a naive strategy by its name (`none`, `flip`, …).

    Raises:
        PolicyError: missing, damaged, unknown class, unknown or dropped argument, non-finite number, wrong version.
    """
    from policy_search.augment.baselines import BASELINES, baseline  # baselines are documents themselves

    if str(path) in BASELINES:
        return baseline(str(path))
    file = Path(path)
    try:
        content, _ = read_policy_json(file, "Export it again.")
    except FileNotFoundError:
        raise PolicyError(f"no policy file {file}; expected a file or one of {', '.join(BASELINES)}") from None
    document = PolicyDocument.from_dict(content, source=str(file))
    return document if document.provenance.name else document.with_provenance(name=readable(file.stem))


def _build(transform: dict[str, Any], source: str) -> A.BaseCompose:
    """Instantiate with warnings as errors: Albumentations drops what it does not know with a warning only."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            built = _instantiate(transform)
        except Exception as error:  # Albumentations raises whatever its validators raise
            text = " ".join(str(error).split())
            raise PolicyError(f"{source}: Albumentations refuses this policy: {text[:300]}") from error
    if not isinstance(built, A.BaseCompose):
        raise PolicyError(f"{source}: key transform: expected a Compose, found {type(built).__name__}")
    return built


def _instantiate(node: dict[str, Any]) -> Any:
    """What `albumentations.from_dict` does, without its import of torch."""
    arguments = {k: v for k, v in node.items() if k != "__class_fullname__"}
    if "transforms" in arguments:
        arguments["transforms"] = [_instantiate(child) for child in arguments["transforms"]]
    return SERIALIZABLE_REGISTRY[shorten_class_name(node["__class_fullname__"])](**arguments)


def _written(compose: A.BaseCompose, source: str) -> dict[str, Any]:
    """A transform as Albumentations writes it, in JSON types only: tuples as lists, numpy numbers as Python's."""
    try:
        written: dict[str, Any] = json.loads(
            json.dumps(compose.to_dict()["transform"], default=lambda v: v.item() if hasattr(v, "item") else str(v))
        )
    except Exception as error:  # transforms raise what they like when they cannot be written
        text = " ".join(str(error).split())
        raise PolicyError(f"{source}: Albumentations cannot write this policy to a file: {text[:300]}") from error
    check_plain(written, "transform", source)
    return written


def _text(transform: Any) -> str:
    return json.dumps(transform, sort_keys=True)
