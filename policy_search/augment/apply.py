"""A policy on an image with its instances, seeded per sample.

Two facts about Albumentations 2.0.8 make this file necessary. Data-loader workers and epochs repeat their draws,
because every `Compose` owns generators that a worker copies. And `Compose(seed=…)` and `set_random_seed` give every
transform of the tree the *same* seed, so the gates of a stack open and close together: three flips with p = 0.5 come
out as all or none. Here every application gets one stream of its own, shared by the whole tree, from (seed, image id,
draw).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policy_search.augment.documents import PolicyDocument
from policy_search.cells.errors import PolicyError
from policy_search.cells.instances import InstanceMap

Image = NDArray[np.uint8]
Donor = Callable[[np.random.Generator], tuple[Image, InstanceMap]]
METADATA_KEY = "copy_paste_metadata"
MIN_AREA = 10  # pixels: less of a cell cannot be recognised, nor drawn as a polygon


def sample_seed(seed: int, image_id: str, draw: int) -> int:
    """128 bits from (run seed, image id, draw index): the same on every machine, in any worker, in any order."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{image_id}|{draw}".encode()).digest()[:16], "big")


class Augmenter:
    """A policy ready to be applied many times. Not shared between threads: the transform tree holds its stream."""

    def __init__(self, document: PolicyDocument) -> None:
        self.document = document
        self._compose = document.compose()

    def __call__(
        self,
        image: Image,
        instances: InstanceMap,
        *,
        seed: int,
        image_id: str,
        draw: int,
        donor: Donor | None = None,
        min_area: int = MIN_AREA,
    ) -> tuple[Image, InstanceMap]:
        """One draw of the policy.

        Args:
            image: (H, W) or (H, W, 3) uint8.
            instances: on the same frame.
            seed, image_id, draw: the whole source of randomness.
            donor: gives another training image with its instances; needed when the policy pastes cells.
            min_area: instances with fewer pixels afterwards are dropped.

        Returns:
            Image of the same shape and dtype, and its instances.

        Raises:
            PolicyError: a donor is needed and missing, a transform cannot be applied to such an image, or the policy
                changes the image's shape or type.
        """
        if image.shape[:2] != instances.shape:
            raise ValueError(f"image is {image.shape[:2]}, instances are on a {instances.shape} frame")
        entropy = sample_seed(seed, image_id, draw)
        stream, donor_stream = np.random.SeedSequence(entropy).spawn(2)
        self._compose.set_random_state(np.random.default_rng(stream), random.Random(entropy))
        # Albumentations refuses an empty stack of masks; an empty layer stands in for it.
        layers = instances.layers if len(instances.layers) else np.zeros((1, *instances.shape), np.uint16)
        extra: dict[str, Any] = {}
        if self.document.needs_donor:
            if donor is None:
                raise PolicyError(f"policy {self.document.name} pastes cells: it needs a donor image with each call")
            donor_image, donor_instances = donor(np.random.default_rng(donor_stream))
            extra[METADATA_KEY] = {"image": donor_image, "masks": donor_instances.layers}
        # Copies: AutoContrast of 2.0.8 writes into the image it is given, and callers keep their images in caches.
        result = self._applied(image=image.copy(), masks=layers.copy(), **extra)
        out, masks = result["image"], np.asarray(result["masks"])
        if out.shape != image.shape or out.dtype != image.dtype or masks.dtype != np.uint16:
            raise PolicyError(
                f"policy {self.document.name} turns a {image.shape} {image.dtype} image into {out.shape} {out.dtype}: "
                "a policy must keep size and type"
            )
        occupied = [bool(plane.max(initial=0)) for plane in masks]
        kept = np.ascontiguousarray(masks if all(occupied) else masks[occupied])
        return np.ascontiguousarray(out), InstanceMap(kept).drop_specks(min_area)

    def _applied(self, **targets: Any) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._compose(**targets)
        except Exception as error:  # transforms raise what they like: many want three channels, or a certain size
            image, text = targets["image"], " ".join(str(error).split())
            raise PolicyError(
                f"policy {self.document.name} cannot be applied to a {image.shape} {image.dtype} image: "
                f"{type(error).__name__}: {text[:300]}. Take the transform out of the policy, or use other images."
            ) from error
        return result


def apply_policy(
    document: PolicyDocument,
    image: Image,
    instances: InstanceMap,
    *,
    seed: int,
    image_id: str,
    draw: int,
    donor: Donor | None = None,
    min_area: int = MIN_AREA,
) -> tuple[Image, InstanceMap]:
    """One draw of a policy on one image; see `Augmenter`, which is cheaper for many."""
    return Augmenter(document)(
        image, instances, seed=seed, image_id=image_id, draw=draw, donor=donor, min_area=min_area
    )
