"""A step of the search waits for its device once: no other operation in it needs a number on the host.

Run on the CPU, where nothing has to be waited for, by watching for the operations that would make a GPU wait.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from policy_search.relaxed import devices
from policy_search.relaxed.crops import CropSampler
from policy_search.relaxed.search import Search, SearchSettings
from policy_search.relaxed.target import TargetSearch, TargetSettings, unlabelled
from policy_search.relaxed.threads import one_thread
from tests.relaxed.textures import culture

# Read a value, or have a size that depends on values, or check their result: each stops the host until the device is
# done. `lift_fresh` is a tensor made of Python numbers, which has to be sent to the device.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "bincount", "repeat_interleave", "equal", "is_nonzero", "unique",
    "_linalg_check_errors", "lift_fresh",
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts waiting operations by the place in this package that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        out = func(*args, **(kwargs or {}))
        moved = name in ("_to_copy", "copy_") and {a.device for a in args if isinstance(a, torch.Tensor)} != {
            out.device
        }
        if name in WAITING or by_mask or moved:
            self.places[place(), name] += 1
        return out


def place() -> str:
    """File of the innermost frame in the package, or in torch's optimisers, which count their steps on the host."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/torch/optim/" in file:
            return "torch.optim"
        if "/policy_search/relaxed/" in file:
            return file.rsplit("/", 1)[1]
        frame = frame.f_back  # type: ignore[assignment]
    return "outside"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("matching", [False, True])
def test_a_step_fetches_once(matching: bool, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the policy applied as it is off the CPU."""
    pairs = [culture(seed) for seed in range(3)]
    sampler = CropSampler([(image if channels == 1 else np.stack([image] * 3, -1), mask) for image, mask in pairs])
    settings = SearchSettings(sub_policies=2, steps=20, warmup=2, batch=8, crop=64, margin=16)
    fetched: list[str] = []
    fetch = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: fetched.append(place()) or fetch(tensor))
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    with one_thread():
        search = Search(sampler, sampler if matching else None, settings, seed=0)
        for _ in range(3):
            # Constants are made and sent to the device once, in the first steps.
            search.step()
        fetched.clear()
        with Waits() as waits:
            for _ in range(9):
                search.step()
    assert fetched == ["search.py"] * 9
    # torch.optim reads its own counter, which lies on the host.
    assert {(file, name) for file, name in waits.places if file != "torch.optim"} == set()


class MetaGenerator(torch.Generator):
    """Says that it lies where it was asked for; there is no generator for tensors without values."""

    def __new__(cls, device: torch.device | str = "cpu") -> Any:
        found = super().__new__(cls)
        found.place = torch.device(device)
        return found

    @property
    def device(self) -> torch.device:
        return self.place


class OneDevice(TorchDispatchMode):
    """Once `strict`, refuses every operation that takes or gives a tensor on the CPU (but single numbers)."""

    strict = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        places = [kwargs.get("device")] + [x.device for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
        if torch.device("meta") in places and "generator" in kwargs:
            kwargs["generator"] = None
        out = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        if self.strict and any(tensor.device.type == "cpu" and tensor.dim() for tensor in tensors):
            raise AssertionError(f"{func} in {place()}: a tensor on the CPU")
        return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("matching", [False, True])
def test_a_step_runs_on_a_device_whose_tensors_have_no_values(
    matching: bool, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On "meta" whatever depends on a value fails, and whatever was made on the wrong device is seen: the nearest that
    a machine without a GPU comes to one."""
    pairs = [culture(seed) for seed in range(3)]
    sampler = CropSampler([(image if channels == 1 else np.stack([image] * 3, -1), mask) for image, mask in pairs])
    settings = SearchSettings(sub_policies=2, steps=20, warmup=1, batch=8, crop=64, margin=16)
    monkeypatch.setattr(torch, "Generator", MetaGenerator)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: [1.0] * tensor.numel())  # the one transfer of a step
    monkeypatch.setattr(Search, "_precision", lambda search: nullcontext())  # autocast does not know the device
    with OneDevice() as mode:
        search = Search(sampler, sampler if matching else None, settings, seed=0, device="meta")
        for number in range(4):
            mode.strict = number > 1  # constants have been sent by then
            search.step()
    gradients = [p.grad for p in search.policy.parameters()]
    assert all(g is not None and g.device.type == "meta" for g in gradients)


def test_a_step_of_target_mode_fetches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [culture(seed)[0] for seed in range(3)]
    settings = TargetSettings(sub_policies=2, steps=60, batch=4, crop=64, margin=16)
    fetched: list[str] = []
    fetch = torch.Tensor.tolist
    monkeypatch.setattr(devices, "may_read", lambda device: False)
    with one_thread():
        search = TargetSearch(unlabelled(images), unlabelled(images), settings, seed=0)
        search.step()
        monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: fetched.append(place()) or fetch(tensor))
        watched = Counter[tuple[str, str]]()
        while search.done < settings.steps:
            stretch, fetched[:] = search._stretch, []
            with Waits() as waits:
                search.step()
            # A stretch begins with choices, which are made on the host.
            if search._stretch == stretch:
                assert fetched == ["learner.py"]
                watched += waits.places
    assert {(file, name) for file, name in watched if file != "torch.optim"} == set()


def test_the_watch_itself_sees_what_waits() -> None:
    tensor = torch.arange(4.0)
    with Waits() as waits:
        tensor.sum().item()
        torch.nonzero(tensor)
        tensor[tensor > 1]
        torch.tensor([1.0])
    assert {name for _, name in waits.places} == {"_local_scalar_dense", "nonzero", "index", "lift_fresh"}
