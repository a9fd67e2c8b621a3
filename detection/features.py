"""A frozen bottom-up network: run image by image, and not at all for an image whose features are on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from detection.feature_cache import FeatureCache, Tensors, is_channels_last
from policy_search.cells.errors import InputError

__all__ = ["FeatureCache", "cached"]


@contextmanager
def cached(model: Any, cache: FeatureCache | None) -> Iterator[None]:
    """Within it, the frozen bottom-up network of `model` sees each image alone, and with a cache each image once.

    Without a cache the same arithmetic runs, so runs with and without one end with the same bits. Each image is
    computed at its own size (rounded up as `model` pads it), whatever it shares a batch with; where the batch is
    larger its features are zero. Other than in a padded batch, features near the lower and right border are those
    that the image has at test time.

    Only whole images come again: of random crops hardly one is ever a hit.

    Args:
        model: detectron2's `GeneralizedRCNN`; its state dict and attributes are the same afterwards.
        cache: where features are kept; entries depend on pixels, weights, precision, memory layout, device type,
            threads and torch's version.

    Raises:
        InputError: the bottom-up network is trained, here or at a forward pass (weights, or statistics that follow
            the batch).
    """
    bottom_up = model.backbone.bottom_up
    if any(parameter.requires_grad for parameter in bottom_up.parameters()):
        raise InputError("features can be kept for a frozen backbone only: leave out --unfreeze or the cache")
    alone = _ImageByImage(bottom_up, int(model.backbone.size_divisibility) or 1, cache)
    preprocess = model.preprocess_image

    def preprocess_image(inputs: list[dict[str, Any]]) -> Any:
        images = preprocess(inputs)
        alone.sizes = list(images.image_sizes)
        return images

    with _replaced(bottom_up, "forward", alone), _replaced(model, "preprocess_image", preprocess_image):
        yield


@contextmanager
def _replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Another method for one object. An attribute of the object goes before the method of its class; it is no module,
    so no name of a weight changes."""
    before = module.__dict__.get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)


class _ImageByImage:
    """Stands for the forward pass of a frozen network: (B, C, H, W) → named features (B, c, h, w).

    Attributes:
        sizes: (height, width) of each image of the next batch, without padding. None: of the whole batch.
    """

    def __init__(self, network: nn.Module, divisor: int, cache: FeatureCache | None) -> None:
        self._network, self._compute = network, network.forward
        self._divisor, self._cache = divisor, cache
        self.sizes: list[tuple[int, int]] | None = None
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._weights = ""

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> Tensors:
        if self._network.training:
            raise InputError("the frozen backbone is in training mode: its statistics would follow the batch")
        sizes = self.sizes or [tuple(images.shape[2:])] * len(images)
        self.sizes = None
        own = [own_part(image[None], size, self._divisor) for image, size in zip(images, sizes, strict=True)]
        return assemble([self._features(image) for image in own], [image.shape[2] for image in own], images.shape)

    def _features(self, image: torch.Tensor) -> Tensors:
        if self._cache is None:
            return dict(self._compute(image))
        key = self._key(image)
        found = self._cache.load(key)
        if found is not None:
            return {name: tensor.to(image.device) for name, tensor in found.items()}
        features = dict(self._compute(image))
        self._cache.store(key, features)
        return features

    def _key(self, image: torch.Tensor) -> str:
        kind = image.device.type
        precision = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "none"
        # Whatever may change the last bits of a sum.
        layout = any(is_channels_last(parameter) for parameter in self._network.parameters())
        threads = torch.get_num_threads() if kind == "cpu" else 0
        arithmetic = (torch.__version__, kind, precision, layout, threads, torch.backends.cudnn.allow_tf32)
        return digest([("image", image)], f"{arithmetic}|{self._weights_hash()}")

    def _weights_hash(self) -> str:
        """Of everything the network computes with; made again when a tensor was written since."""
        tensors = [*self._network.named_parameters(), *self._network.named_buffers()]
        stamp = tuple((tensor.data_ptr(), tensor._version) for _, tensor in tensors)
        if stamp != self._stamp:
            self._weights, self._stamp = digest(tensors, repr(self._network)), stamp
        return self._weights


def own_part(image: torch.Tensor, size: tuple[int, int], divisor: int) -> torch.Tensor:
    """One image (1, C, H, W) of `size` without the padding that a larger neighbour in its batch asked for; sides stay
    multiples of `divisor`, as long as the batch has them."""
    rows, columns = (-(-side // divisor) * divisor for side in size)
    return image[:, :, :rows, :columns].contiguous()


def assemble(parts: list[Tensors], heights: list[int], shape: torch.Size) -> Tensors:
    """Features of single images (1, c, h, w) as those of a batch of `shape` (B, C, H, W), zero outside each image.

    Args:
        parts: of each image.
        heights: of each image's own part, to know by what features are smaller than pixels.
        shape: of the batch.
    """
    batch = {}
    for name, first in parts[0].items():
        stride = heights[0] // first.shape[2]
        size = (len(parts), first.shape[1], -(-shape[2] // stride), -(-shape[3] // stride))
        kind = torch.channels_last if is_channels_last(first) else torch.contiguous_format
        whole = torch.zeros(size, dtype=first.dtype, device=first.device).contiguous(memory_format=kind)
        for target, part in zip(whole, parts, strict=True):
            values = part[name][0]
            target[:, : values.shape[1], : values.shape[2]] = values
        batch[name] = whole
    return batch


def digest(tensors: Iterable[tuple[str, torch.Tensor]], context: str) -> str:
    """Hex digest over names, shapes, dtypes and bits of tensors on any device, and a text."""
    summary = hashlib.sha256(context.encode())
    for name, tensor in tensors:
        summary.update(f"|{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        summary.update(values.view(torch.uint8).numpy().data)
    return summary.hexdigest()
