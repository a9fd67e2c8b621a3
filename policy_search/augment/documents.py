"""Policy documents: plain Albumentations JSON with our provenance beside the transform, read strictly.

Layout of a file (design 4.1): `{"__version__": "2.0.8", "transform": {…}, "policy_search": {provenance}}`.
`albumentations.load` reads the first two keys and ignores the third.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import albumentations as A
from albumentations.core.serialization import NON_SERIALIZABLE_REGISTRY, SERIALIZABLE_REGISTRY, shorten_class_name
from pydantic import BaseModel, ConfigDict, ValidationError

from policy_search.cells.errors import PolicyError
from policy_search.cells.files import write_json

SCHEMA = 1
PROVENANCE_KEY = "policy_search"
FORMAT_VERSION = "2.0.8"
MAX_BYTES = 16 * 1024 * 1024
_CONTAINERS = {"Compose", "OneOf", "Sequential", "SomeOf", "OneOrOther", "RandomOrder", "SelectiveChannelTransform"}


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
    name: str = ""
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
        written = _plain(compose.to_dict()["transform"])
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
        _check_frame(content, source)
        if provenance is None:
            try:
                provenance = Provenance.model_validate(content.get(PROVENANCE_KEY) or {})
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join([PROVENANCE_KEY, *map(str, first["loc"])])
                raise PolicyError(f"{source}: key {key}: {first['msg']}. Remove the key or mend it.") from None
        _check_node(content["transform"], "transform", source)
        built = _build(content["transform"], source)
        return cls(_plain(built.to_dict()["transform"]), provenance)

    @property
    def name(self) -> str:
        """What tables call it: the provenance's name, else the content hash."""
        return self.provenance.name or self.content_hash

    @cached_property
    def content_hash(self) -> str:
        """16 hex digits over the transform alone: equal behaviour, equal hash, whatever the provenance says."""
        return hashlib.sha256(json.dumps(self.transform, sort_keys=True).encode()).hexdigest()[:16]

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
        if file.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{file} is larger than {MAX_BYTES >> 20} MiB: this is not a policy file")
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise PolicyError(f"no policy file {file}; expected a file or one of {', '.join(BASELINES)}") from None
    except OSError as error:
        raise PolicyError(f"cannot read policy file {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"policy file {file} is damaged: not JSON ({error}). Export it again.") from None
    document = PolicyDocument.from_dict(content, source=str(file))
    return document if document.provenance.name else document.with_provenance(name=file.stem)


def _check_frame(content: Any, source: str) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise PolicyError(f"{source}: expected an Albumentations file, an object with the key 'transform'")
    extra = sorted(set(content) - {"__version__", "transform", PROVENANCE_KEY})
    if extra:
        raise PolicyError(f"{source}: unknown key {extra[0]!r} at the top level. Remove it.")
    version = content.get("__version__")
    if not isinstance(version, str) or not version.startswith("2.0."):
        raise PolicyError(
            f"{source}: key __version__ is {version!r}, expected {FORMAT_VERSION}. Files of other releases name "
            "arguments differently and would silently do something else: write it with Albumentations 2.0.8."
        )


def _check_node(node: Any, key: str, source: str, depth: int = 0) -> None:
    """One transform of the tree: known class, known arguments, finite numbers, no box parameters."""
    if depth > 32:
        raise PolicyError(f"{source}: key {key}: transforms are nested more than 32 deep")
    if not isinstance(node, dict) or not isinstance(node.get("__class_fullname__"), str):
        raise PolicyError(f"{source}: key {key}: expected a transform, an object with '__class_fullname__'")
    name = node["__class_fullname__"]
    cls = SERIALIZABLE_REGISTRY.get(shorten_class_name(name))
    if cls is None:
        if name in NON_SERIALIZABLE_REGISTRY:
            raise PolicyError(f"{source}: key {key}: {name} carries Python code and cannot stand in a policy file")
        near = difflib.get_close_matches(name, SERIALIZABLE_REGISTRY, n=1)
        hint = f" Did you mean {near[0]}?" if near else " Import the package that defines it first."
        raise PolicyError(f"{source}: key {key}: unknown transform {name!r}.{hint}")
    arguments = {k: v for k, v in node.items() if k not in ("__class_fullname__", "transforms")}
    if "bbox_params" in arguments and arguments["bbox_params"] is not None:
        raise PolicyError(f"{source}: key {key}.bbox_params: must be null; boxes are computed from the masks instead")
    if name not in _CONTAINERS or cls is A.SelectiveChannelTransform:
        known = set(cls.__new__(cls).get_transform_init_args_names()) | {"p"}
        for argument in sorted(set(arguments) - known):
            near = difflib.get_close_matches(argument, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(sorted(known))}."
            raise PolicyError(f"{source}: key {key}.{argument}: {name} has no such argument. {hint}")
    if "p" not in arguments and name != "Compose":
        raise PolicyError(f"{source}: key {key}.p: missing; Albumentations would silently use 0.5. State it.")
    for argument, value in arguments.items():
        _check_finite(value, f"{key}.{argument}", source)
    children = node.get("transforms", [])
    if not isinstance(children, list):
        raise PolicyError(f"{source}: key {key}.transforms: expected a list of transforms")
    if name in _CONTAINERS and not children:
        raise PolicyError(f"{source}: key {key}.transforms: {name} is empty. Use NoOp for a policy that does nothing.")
    for index, child in enumerate(children):
        _check_node(child, f"{key}.transforms[{index}]", source, depth + 1)


def _check_finite(value: Any, key: str, source: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise PolicyError(f"{source}: key {key}: {value} is not a finite number. Give a finite one.")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_finite(inner, f"{key}.{name}", source)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _check_finite(inner, f"{key}[{index}]", source)


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


def _plain(value: Any) -> Any:
    """JSON types only, tuples as lists, numpy numbers as Python's."""
    return json.loads(json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v)))
