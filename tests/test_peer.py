"""The peer's runner, with a stand-in for its command: budget, policy kept, images written, and bad input."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.stats
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts" / "peer_side"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
from halves import Halves
from peer import Peer, write_pairs
from planted_shift import distance
from steps import ROOT

from policy_search.cells.errors import InputError

# Writes a policy a tenth of a CPU second, as many as the epochs asked for, and the timing at the end.
STAND_IN = """#!{python}
import json, os, resource, sys, time
from pathlib import Path
settings = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = Path(settings["hydra.run.dir"]) / "policy"
folder.mkdir(parents=True)
for epoch in range(int(settings["trainer.max_epochs"])):
    started = time.process_time()
    while time.process_time() < started + 0.1:
        pass
    text = json.dumps({{"epoch": epoch, "threads": os.environ["OMP_NUM_THREADS"], "data": os.environ["AA_DATA"],
                       "cpu": time.process_time(), "limit": resource.getrlimit(resource.RLIMIT_CPU)}})
    (folder / f"epoch_{{epoch}}.json").write_text(text)
Path(os.environ["AA_TIMING"]).write_text(json.dumps({{"steps_cpu": [0.1]}}))
"""


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    folder = tmp_path / "peer"
    command = folder / ".venv-autoalbument" / "bin" / "autoalbument-search"
    command.parent.mkdir(parents=True)
    command.write_text(STAND_IN.format(python=sys.executable))
    command.chmod(0o755)
    (folder / "config").mkdir()
    (folder / "config" / "search.yaml").write_text("_version: 2\n")
    return Peer(folder)


def test_a_finished_search_gives_the_last_policy(peer: Peer, tmp_path: Path) -> None:
    module = ROOT / "scripts" / "peer_side" / "halves.py"
    run = peer.search(tmp_path / "data", tmp_path / "out", batch=16, epochs=3, seed=0, modules=[module])
    assert (tmp_path / "out" / "config" / "halves.py").read_text() == module.read_text()
    policy = json.loads(run.policy.read_text())
    # Its own account, to which the end of the process comes.
    assert 0.3 <= policy.pop("cpu") <= run.cpu_s < 3
    assert policy.pop("limit") == list(resource.getrlimit(resource.RLIMIT_CPU))
    assert policy == {"epoch": 2, "threads": "1", "data": str(tmp_path / "data")}
    assert run.epochs == 3
    assert not run.stopped
    assert run.timing == {"steps_cpu": [0.1]}
    # Linux counts the moment before the command is loaded, in which the child is a copy of this process (hundreds of MB
    # where PyTorch is loaded; the peer itself needs 5 GB): the larger of the two, and not the sum.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert 5 < run.peak_mb < max(500, 1.01 * own)


def test_the_budget_ends_a_search_and_keeps_what_it_found(peer: Peer, tmp_path: Path) -> None:
    run = peer.search(tmp_path / "data", tmp_path / "out", batch=16, epochs=10_000, seed=0, cpu_seconds=1)
    assert run.stopped
    assert run.timing is None
    # Against its own account: the kernel's limit goes by ticks of the timer, which may be tenths of a second off.
    policy = json.loads(run.policy.read_text())
    assert policy["limit"] == [1, 6]
    assert policy["cpu"] <= run.cpu_s < policy["cpu"] + 0.6
    assert run.epochs - 2 <= policy["epoch"] < run.epochs < 11


def test_a_failure_is_told_with_its_last_words(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)code 1 after 0 epochs.*invalid literal"):
        peer.search(tmp_path / "data", tmp_path / "out", batch=16, epochs=1, seed=0, overrides=["trainer.max_epochs=x"])


def test_an_existing_folder_is_not_written_over(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        peer.search(tmp_path / "data", tmp_path, batch=16, epochs=1, seed=0)


def test_a_folder_without_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"search\.yaml is missing\. Run setup_env\.sh"):
        Peer(tmp_path)


def test_grey_images_are_written_as_three_equal_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40), np.uint8)
    mask = image > 128
    settings = write_pairs([(image, mask)], tmp_path / "data", count=5, size=32, seed=1)
    files = sorted((tmp_path / "data" / "images").iterdir())
    assert len(files) == 5
    for file in files:
        found = cv2.imread(str(file))
        assert found.shape == (32, 32, 3)
        assert (found == found[..., :1]).all()
        where = cv2.matchTemplate(image, found[..., 0], cv2.TM_SQDIFF)
        y, x = np.unravel_index(where.argmin(), where.shape)
        assert (image[y : y + 32, x : x + 32] == found[..., 0]).all()
        written = cv2.imread(str(tmp_path / "data" / "masks" / file.name), cv2.IMREAD_GRAYSCALE)
        assert (written == 255 * mask[y : y + 32, x : x + 32]).all()
    mean, deviation = (float(s.split("=[")[1].split(",")[0]) for s in settings)
    assert mean == pytest.approx(image.mean() / 255, abs=1e-4)
    assert deviation == pytest.approx(image.std() / 255, abs=1e-4)


def test_the_loader_puts_the_target_where_the_critic_expects_real_images() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(20))  # 0 to 9 are the source, 10 to 19 the target
    batches = [batch for (batch,) in Halves(data, batch_size=8, shuffle=True, drop_last=True)]
    assert len(batches) == 2
    for batch in batches:
        assert (batch[:4] < 10).all()
        assert (batch[4:] >= 10).all()
    assert len(torch.cat(batches).unique()) == 16


def test_distance_of_grey_levels_is_wasserstein() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 200, 500), rng.integers(50, 256, 700)
    shares = [np.bincount(values, minlength=256) / len(values) for values in (first, second)]
    assert distance(*shares) == pytest.approx(scipy.stats.wasserstein_distance(first, second))
    assert distance(shares[0], shares[0]) == 0
