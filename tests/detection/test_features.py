"""Cached features: the same weights at the end, no stale or damaged entry, a bound that holds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

import detection.feature_cache
from detection.checkpoint import hash_state
from detection.config import PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.feature_cache import FeatureCache, is_channels_last
from detection.features import cached, own_part
from detection.mapper import batches
from detection.model import build_model, freeze_bottom_up
from detection.training import fit
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO, culture

MB = 1 << 20


def frozen(seed: int = 0):
    model = build_model(MICRO, seed)
    freeze_bottom_up(model)
    model.backbone.bottom_up.eval()
    return model


def fine_tuned(cache: FeatureCache | None, sizes: tuple[int, ...] = ()) -> str:
    model = frozen()
    config = PretrainConfig(data="A172", out="unused", crop=0)
    crops = Crops(TrainingSet(culture(images=2), None, 0, factor=1), 0, 0, 8, sizes=sizes)  # four epochs
    with cached(model, cache):
        fit(model, crops, config, watcher=Watcher(), log_dir=None)
    return hash_state(model.state_dict())


def tensors(value: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"res2": torch.full((1, 4, 8, 8), value, dtype=dtype)}


def test_fine_tuning_ends_with_the_same_weights_and_the_second_epoch_is_read(tmp_path):
    cache = FeatureCache(tmp_path, 64 * MB)
    assert fine_tuned(cache) == fine_tuned(None)
    assert cache.stats()[:3] == (6, 2, 0)
    assert fine_tuned(FeatureCache(tmp_path, 64 * MB)) == fine_tuned(None)  # everything from another run's files


def test_images_of_different_sizes_share_batches_and_still_hit(tmp_path):
    cache = FeatureCache(tmp_path, 64 * MB)
    assert fine_tuned(cache, (60, 130)) == fine_tuned(None, (60, 130))
    assert cache.stats().misses == 4  # 2 images × 2 sizes, whatever their neighbours
    assert cache.stats().hits == 4


def test_features_are_those_of_each_image_alone_and_zero_outside_it():
    model = frozen()
    bottom_up = model.backbone.bottom_up
    rng = torch.Generator().manual_seed(0)
    small, large = (torch.randn(1, 1, *size, generator=rng) for size in ((64, 96), (96, 128)))
    batch = torch.zeros(2, 1, 96, 128)
    batch[0, :, :64, :96], batch[1] = small[0], large[0]
    alone = [bottom_up(small), bottom_up(large)]
    with cached(model, None):
        bottom_up.forward.sizes = [(61, 96), (96, 128)]
        together = bottom_up(batch)
    for name, whole in together.items():
        h, w = alone[0][name].shape[2:]
        assert torch.equal(whole[0, :, :h, :w], alone[0][name][0])
        assert torch.equal(whole[1], alone[1][name][0])
        rest = whole[0].clone()
        rest[:, :h, :w] = 0
        assert not rest.any()
        assert whole.shape[2:] == alone[1][name].shape[2:]
        assert is_channels_last(whole) == is_channels_last(alone[1][name])  # convolutions after it round by layout
    same = torch.cat([large, large.flip(3)])
    with cached(model, None):
        each = bottom_up(same)
    for name, whole in bottom_up(same).items():
        torch.testing.assert_close(each[name], whole, rtol=1e-5, atol=1e-5)


def test_own_part_is_a_multiple_that_holds_the_image():
    image = torch.zeros(1, 1, 100, 160)
    assert own_part(image, (1, 1), 32).shape == (1, 1, 32, 32)
    assert own_part(image, (65, 32), 32).shape == (1, 1, 96, 32)
    assert own_part(image, (98, 160), 32).shape == (1, 1, 100, 160)


def test_pixels_of_the_mean_are_pixels():
    """A border of exactly the mean grey value is 0 for the network, but it is no padding."""
    model = frozen()
    for name, parameter in model.backbone.bottom_up.named_parameters():
        if name.endswith("norm.bias"):  # a network that has learnt answers to nothing with something
            parameter.data.fill_(0.1)
    image = torch.full((1, 64, 64), 128, dtype=torch.uint8)
    image[:, :20, :20] = 90
    with torch.no_grad():
        expected = model.backbone.bottom_up(model.preprocess_image([{"image": image}]).tensor)
    with cached(model, None), torch.no_grad():
        found = model.backbone.bottom_up(model.preprocess_image([{"image": image}]).tensor)
    for name, features in expected.items():
        assert torch.equal(found[name], features)
        assert features[:, :, -1].abs().sum() > 0


def test_the_model_is_as_it_was_afterwards(tmp_path):
    model = frozen()
    names = list(model.state_dict())
    with cached(model, FeatureCache(tmp_path, MB)):
        assert list(model.state_dict()) == names
        assert "forward" in vars(model.backbone.bottom_up)
    assert "forward" not in vars(model.backbone.bottom_up)
    assert "preprocess_image" not in vars(model)
    with cached(model, None):
        outer = model.backbone.bottom_up.forward
        with cached(model, FeatureCache(tmp_path, MB)):
            assert model.backbone.bottom_up.forward is not outer
        assert model.backbone.bottom_up.forward is outer
    with pytest.raises(ZeroDivisionError), cached(model, None):
        raise ZeroDivisionError
    assert "forward" not in vars(model.backbone.bottom_up)


def test_other_weights_pixels_or_precision_are_no_hit(tmp_path):
    model = frozen()
    bottom_up = model.backbone.bottom_up
    cache = FeatureCache(tmp_path, 64 * MB)
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with cached(model, cache):
        for expected in (0, 1):
            bottom_up(image)
            assert cache.stats().hits == expected
        bottom_up(image + 1e-6)
        bottom_up(image.transpose(2, 3).contiguous())
        with torch.autocast("cpu", torch.bfloat16):
            half = bottom_up(image)
            again = bottom_up(image)
        assert cache.stats().hits == 2
        assert all(torch.equal(half[n], again[n]) and half[n].dtype == again[n].dtype for n in half)
        with torch.no_grad():
            next(bottom_up.parameters()).add_(1e-3)
        changed = bottom_up(image)
        next(bottom_up.buffers()).add_(1e-3)
        bottom_up(image)
        bottom_up.to(memory_format=torch.contiguous_format)  # other kernels, other last bits
        bottom_up(image)
        assert cache.stats().hits == 2
    with torch.no_grad():
        next(bottom_up.buffers()).sub_(1e-3)
    assert all(torch.allclose(changed[n], direct, atol=1e-4) for n, direct in bottom_up(image).items())
    other = frozen(seed=1)
    with cached(other, cache):
        other.backbone.bottom_up(image)
    assert cache.stats().hits == 2


def test_a_trained_backbone_is_refused(tmp_path):
    free = build_model(MICRO)
    with pytest.raises(InputError, match="frozen backbone"), cached(free, FeatureCache(tmp_path, MB)):
        pass
    model = frozen()
    model.train()
    with cached(model, None), pytest.raises(InputError, match="training mode"):
        model.backbone.bottom_up(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_stored_comes_back_bit_by_bit_with_its_layout(tmp_path, dtype):
    values = torch.randn(1, 5, 6, 7, generator=torch.Generator().manual_seed(3)).to(dtype)
    values[0, 0, 0, 0] = float("nan")
    stored = {"a": values, "b": values.contiguous(memory_format=torch.channels_last)}
    cache = FeatureCache(tmp_path, MB)
    cache.store("k", stored)
    found = cache.load("k")
    assert list(found) == ["a", "b"]
    for name, tensor in stored.items():
        assert found[name].dtype == dtype
        assert found[name].stride() == tensor.stride()
        bits = [one.contiguous().view(torch.int16) for one in (found[name], tensor)]
        assert torch.equal(*bits)
    size = next(tmp_path.glob("*.features")).stat().st_size
    assert cache.stats().bytes == size < 2 * values.numel() * dtype.itemsize + 512


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "renamed", "foreign"])
def test_a_damaged_file_is_said_and_never_used(tmp_path, damage):
    said: list[str] = []
    cache = FeatureCache(tmp_path, MB, said.append)
    cache.store("key", tensors(1.5))
    path = tmp_path / "key.features"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "renamed":
        cache.store("other", tensors(2.5))
        content = bytearray((tmp_path / "other.features").read_bytes())
    path.write_bytes({"cut": content[:-40], "empty": b"", "foreign": b"hello"}.get(damage, bytes(content)))
    assert cache.load("key") is None
    assert len(said) == 1
    assert "damaged" in said[0]
    assert not path.exists()
    cache.store("key", tensors(1.5))
    assert torch.equal(cache.load("key")["res2"], tensors(1.5)["res2"])


def test_the_bound_is_kept_and_old_runs_go_first(tmp_path):
    one = FeatureCache(tmp_path, MB)
    one.store("probe", tensors(0))
    size = one.stats().bytes
    (tmp_path / "probe.features").unlink()
    said: list[str] = []
    for number, key in enumerate(["c", "a", "b"]):
        one.store(key, tensors(number))
        os.utime(tmp_path / f"{key}.features", (1000 + number, 1000 + number))
    (tmp_path / "note.txt").write_text("x" * 10000)  # not ours
    run = FeatureCache(tmp_path, 3 * size + size // 2, said.append)
    assert run.load("c") is not None  # used: no longer the oldest
    for number, key in enumerate("defgh"):
        run.store(key, tensors(number))
        assert run.stats().bytes <= run.limit_bytes
    kept = {path.stem for path in tmp_path.glob("*.features")}
    assert kept == {"c", "d", "e"}
    assert run.stats().refused == 3
    assert len(said) == 1
    assert "limit" in said[0]
    assert (tmp_path / "note.txt").exists()
    with pytest.raises(InputError, match="at least one byte"):
        FeatureCache(tmp_path, 0)


def test_what_cannot_fit_is_not_even_written(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path, 500)
    monkeypatch.setattr(detection.feature_cache, "replacing", None)  # whoever writes fails
    cache.store("k", tensors(0))
    assert cache.stats() == (0, 0, 1, 0)


def test_what_another_process_filled_meanwhile_is_taken_back(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path, 3000)
    inner = detection.feature_cache.replacing

    @contextmanager
    def crowded(path):
        with inner(path) as scratch:
            (tmp_path / "other.features").write_bytes(b"x" * 2500)
            yield scratch

    monkeypatch.setattr(detection.feature_cache, "replacing", crowded)
    cache.store("k", tensors(0))
    assert [path.name for path in tmp_path.iterdir()] == ["other.features"]
    assert cache.stats().refused == 1


def test_what_a_killed_process_left_counts_and_goes_after_an_hour(tmp_path):
    left = tmp_path / ".k.features.abc.features"
    left.write_bytes(b"x" * 1000)
    cache = FeatureCache(tmp_path, MB)
    assert cache.stats().bytes == 1000
    os.utime(left, (1000, 1000))
    assert cache.stats().bytes == 0
    assert not left.exists()


def test_a_full_disk_ends_caching_not_training(tmp_path, monkeypatch):
    said: list[str] = []
    cache = FeatureCache(tmp_path, 64 * MB, said.append)

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(detection.feature_cache, "replacing", full)
    assert fine_tuned(cache) == fine_tuned(None)
    assert len(said) == 1
    assert "No space left" in said[0]
    assert cache.stats() == (0, 8, 8, 0)


def test_two_processes_share_a_folder(tmp_path):
    program = (
        "import sys, torch\nfrom detection.feature_cache import FeatureCache\n"
        "said = []\ncache = FeatureCache(sys.argv[1], 40 * 1400, said.append)\n"
        "for turn in range(8):\n  for k in range(30):\n"
        "    found = cache.load(f'k{k}')\n    want = torch.full((1, 4, 8, 8), float(k))\n"
        "    assert found is None or torch.equal(found['a'], want)\n"
        "    if found is None: cache.store(f'k{k}', {'a': want})\n"
        "assert not said, said\nprint(cache.stats().hits)\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    hits = [int(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert min(hits) >= 7 * 30
    assert len(list(tmp_path.iterdir())) == 30


def test_whole_images_come_to_the_network_unchanged():
    data = culture(images=1)
    crops = Crops(TrainingSet(data, None, 0, factor=1), 0, 0, 1)
    (sample,) = next(iter(batches(crops, 1, 1)))
    assert np.array_equal(sample["image"][0].numpy(), data.image(data.records[0]))
