"""One training in two processes: gradients are the mean of the halves, all ranks agree, and none waits for the dead."""

from __future__ import annotations

import atexit
import os
import signal
import time

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.utils.events import EventStorage

from detection import ranks
from detection.checkpoint import hash_state
from detection.config import PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.failures import ProcessFailedError, TrainingDivergedError, TrainingInterrupted
from detection.mapper import batches
from detection.model import build_model, freeze_bottom_up, training_mode
from detection.optimizer import learning_rate
from detection.precision import float32_heads
from detection.processes import spread
from detection.resume import Standing, StateFile
from detection.training import fit, seed_regions
from detection.validation import Validation
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO, culture

# Group normalisation: batch statistics of the halves would come into the running averages.
NETWORK = MICRO.model_copy(update={"norm": "GN", "stages": (32, 64, 96, 128), "stem": 32})
CONFIG = PretrainConfig(
    data="A172", out="unused", crop=64, iterations=3, batch=4, processes=2, optimizer="sgd", lr=0.01, clip=0,
    weight_decay=1e-3, warmup=1,
)  # fmt: skip


def crops() -> Crops:
    return Crops(TrainingSet(culture(), None, 0, factor=1), 64, 0, 12)


def train(network, state_folder, watcher, stop):
    """The work of a rank: weights at the end of both, and what each validation of rank 0 was."""
    torch.set_num_threads(1)
    model = build_model(network, 3)
    freeze_bottom_up(model)
    scored: list[int] = []
    validation = Validation(2, 0, lambda _: (time.sleep(0.5), scored.append(1), 0.5)[2], lambda *_: None)
    state = StateFile(state_folder, {}, 0)
    standing = fit(model, crops(), CONFIG, watcher=watcher, log_dir=None, state=state, validation=validation, stop=stop)
    hashes: list[str] = [""] * ranks.size()
    torch.distributed.all_gather_object(hashes, hash_state(model.state_dict()))
    return hashes, len(scored), standing, {n: p.detach().clone().numpy() for n, p in model.named_parameters()}


def alone() -> dict[str, torch.Tensor]:
    """The same weights in one process: the mean of the two halves' gradients, and SGD written out."""
    torch.set_num_threads(1)
    model = build_model(NETWORK, 3)
    freeze_bottom_up(model)
    training_mode(model)
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    norms = {n for n, m in model.named_modules() if isinstance(m, torch.nn.GroupNorm)}
    momentum = {n: torch.zeros_like(p) for n, p in weights.items()}
    for iteration, batch in enumerate(batches(crops(), 1, 4)):
        total = {n: torch.zeros_like(p) for n, p in weights.items()}
        for rank, half in enumerate((batch[:2], batch[2:])):
            model.zero_grad()
            with torch.random.fork_rng(devices=[]), EventStorage(0), float32_heads(model):
                seed_regions(0, iteration, rank)
                sum(model(half).values()).backward()
            for name, weight in weights.items():
                total[name] += weight.grad / 2
        rate = CONFIG.lr * learning_rate(iteration, 3, CONFIG)
        with torch.no_grad():
            for name, weight in weights.items():
                decay = 0.0 if name.rsplit(".", 1)[0] in norms else CONFIG.weight_decay
                momentum[name] = CONFIG.momentum * momentum[name] + total[name] + decay * weight
                weight -= rate * momentum[name]
    return dict(weights)


def test_two_processes_average_the_gradients_of_their_halves(tmp_path):
    steps: list[tuple[int, int, float]] = []
    scores: list[tuple[int, float, bool]] = []
    watcher = Watcher(step=lambda *a: steps.append(a), validated=lambda *a: scores.append(a))
    hashes, validations, standing, found = spread(
        train, (NETWORK, tmp_path), processes=2, device="cpu", watcher=watcher
    )
    assert hashes[0] == hashes[1]
    assert [s[:2] for s in steps] == [(1, 3), (2, 3), (3, 3)]
    assert validations == 2
    assert [s[0] for s in scores] == [2, 3]
    assert standing == Standing(3, 0.5, 2, 1, False)
    assert StateFile(tmp_path, {}, 0).check() == 3
    start = build_model(NETWORK, 3).state_dict()
    for name, expected in alone().items():
        value = torch.from_numpy(found[name])
        moved = (expected - start[name]).abs().max()
        assert (value - expected).abs().max() <= 1e-6 + 1e-3 * moved, name
        assert moved > 0, name


def misbehave(kind, watcher, stop):
    """Rank 1 goes wrong while rank 0 waits for it."""
    if ranks.rank() == 1:
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise {"diverged": TrainingDivergedError("loss is nan"), "input": InputError("no such thing"),
               "bug": ValueError("a bug"), "stop": TrainingInterrupted("interrupted")}[kind]  # fmt: skip
    ranks.from_first(None)
    ranks.mean({"a": 1.0}, torch.device("cpu"))
    time.sleep(150)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("kill", ProcessFailedError, "training process 2 of 2 was killed by SIGKILL.*the others were ended"),
        ("diverged", TrainingDivergedError, "^loss is nan$"),
        ("bug", ProcessFailedError, "training process 2 of 2 failed: ValueError: a bug; the others were ended"),
    ],
)
def test_the_end_of_one_process_ends_the_others(kind, error, message):
    begun = time.monotonic()
    with pytest.raises(error, match=message):
        spread(misbehave, (kind,), processes=2, device="cpu", watcher=Watcher())
    assert time.monotonic() - begun < 120


def count_buffers(watcher, stop):
    model = build_model(MICRO, 0)
    for buffer in model.buffers():
        buffer.fill_(ranks.rank() + 1)
    ranks.same_buffers(model)
    mean = ranks.mean({"a": 1.0 + 2 * ranks.rank(), "b": 5.0}, torch.device("cpu"))
    sums: list[float] = [0.0] * ranks.size()
    torch.distributed.all_gather_object(sums, max(float(b.max()) for b in model.buffers()))
    return sums, mean, os.environ["CUDA_VISIBLE_DEVICES"]


def test_ranks_agree_on_buffers_and_losses(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    sums, mean, visible = spread(count_buffers, (), processes=2, device="cpu", watcher=Watcher())
    assert sums == [1.0, 1.0]
    assert mean == {"a": 2.0, "b": 5.0}
    assert visible == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def abort_at_the_end(watcher, stop):
    atexit.register(os.abort)
    return "done"


def last_rank_needs_the_first_one(watcher, stop):
    if ranks.rank() == 1:
        time.sleep(2)
        torch.distributed.distributed_c10d._get_default_store().add("late", 1)  # waits for an answer
    return "done"


def test_the_first_rank_serves_the_others_to_their_end():
    assert spread(last_rank_needs_the_first_one, (), processes=2, device="cpu", watcher=Watcher()) == "done"


def test_what_a_library_does_as_its_process_ends_does_not_undo_a_training():
    assert spread(abort_at_the_end, (), processes=2, device="cpu", watcher=Watcher()) == "done"


def test_shares_are_parts_of_the_same_batches():
    everything = list(range(14))
    halves = [list(ranks.Share(everything, 4, start=1, rank=r, size=2)) for r in (0, 1)]
    assert halves == [[4, 5, 8, 9, 12, 13], [6, 7, 10, 11]]
    assert list(ranks.Share(everything, 4)) == everything
    with pytest.raises(ValueError, match="cannot be shared"):
        ranks.Share(everything, 4, size=3)
    with pytest.raises(ValueError, match="a batch of 2 cannot be shared equally by 3 processes"):
        PretrainConfig(data="A172", out="unused", processes=3)
