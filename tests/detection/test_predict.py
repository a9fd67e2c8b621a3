"""`detect predict`: files for known cells, bad inputs among good ones, tiles beside one piece, heads in portions."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.modeling.roi_heads import CascadeROIHeads

import detection.cli as cli
import detection.heads
import detection.predict
from detection.checkpoint import save_checkpoint
from detection.config import PredictConfig, PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.find import find_cells
from detection.model import build_model
from detection.predict import predict_image, proposals_by_area, run_prediction
from detection.training import fit
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from policy_search.cells.instances import Instance
from tests.detection.culture import MICRO, culture

CELLS = [
    Instance(1, 2, 3, np.ones((10, 10), bool)),
    Instance(2, 8, 3, np.ones((10, 10), bool)),
    Instance(3, 40, 30, np.ones((5, 4), bool)),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("base") / "model.pth"
    save_checkpoint(path, build_model(MICRO, 5), MICRO, {})
    return str(path)


@pytest.fixture
def knows(monkeypatch):
    """The network finds `CELLS` in every picture."""
    monkeypatch.setattr(detection.predict, "find_cells", lambda *_: (CELLS, [0.9, 0.8, 0.7]))


def picture(path, shape=(50, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def rows_of(out) -> list[dict]:
    with (out / "counts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_known_cells(tmp_path, weights, knows):
    files = [
        picture(tmp_path / "p1/a.png"),
        picture(tmp_path / "p2/a.png"),
        picture(tmp_path / "p2/b.tif", (50, 60, 3)),
    ]
    out = tmp_path / "out"
    said = []
    done = run_prediction(PredictConfig(images=files, weights=weights, out=out), said.append)
    assert [made.name for made in done] == ["p1_a", "p2_a", "b"]
    assert [row["file"] for row in rows_of(out)] == files
    for row in rows_of(out):
        assert (row["cells"], row["score_threshold"]) == ("3", "0.3")
        assert (float(row["mean_area_px"]), float(row["median_area_px"])) == (pytest.approx(73.3), 100)
        assert float(row["foreground_fraction"]) == pytest.approx(180 / 3000)
        labels = tifffile.imread(out / "labels" / f"{row['name']}.tif")
        assert (labels.dtype, labels.shape) == (np.uint16, (50, 60))
        assert [int((labels == k).sum()) for k in (1, 2, 3)] == [100, 60, 20]
        shown = np.asarray(Image.open(out / "overlays" / f"{row['name']}.png"))
        assert shown.shape == (50, 60, 3)
        assert (shown[3, 2:12] != shown[3, 2:12, :1]).any(axis=1).all()
    assert all("3 cells" in text for text in said)
    assert not list(out.rglob(".*"))


def test_bad_pictures_among_good_ones(tmp_path, weights, knows, monkeypatch, capsys):
    good = picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    out = tmp_path / "out"
    arguments = [
        str(tmp_path / "missing.tif"),
        str(tmp_path / "bad.png"),
        good,
        "--weights",
        weights,
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["detect", "predict", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: 2 of the inputs cannot be used: ")
    assert shown.count("\n") == 1
    assert all(part in shown for part in ("missing.tif does not exist", "bad.png", "the other 1"))
    assert [row["file"] for row in rows_of(out)] == [good]


def test_nothing_is_written_without_a_picture_or_weights(tmp_path, weights):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="does not exist"):
        run_prediction(PredictConfig(images=[str(tmp_path / "no.tif")], weights=weights, out=out))
    with pytest.raises(InputError, match="no weights at"):
        run_prediction(PredictConfig(images=[picture(tmp_path / "a.png")], weights=tmp_path / "no.pth", out=out))
    assert not out.exists()


def test_neither_pictures_nor_other_results_are_overwritten(tmp_path, weights, knows):
    out = tmp_path / "out"
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    run_prediction(PredictConfig(images=[first], weights=weights, out=out))
    run_prediction(PredictConfig(images=[first, second], weights=weights, out=out))  # more of the same is fine
    assert len(rows_of(out)) == 2
    with pytest.raises(InputError, match=r"other pictures, such as b.png"):
        run_prediction(PredictConfig(images=[first], weights=weights, out=out))
    assert len(rows_of(out)) == 2
    own = picture(out / "overlays/c.png")
    before = (out / "overlays/c.png").read_bytes()
    with pytest.raises(InputError, match="overwritten by its own result"):
        run_prediction(PredictConfig(images=[own], weights=weights, out=out))
    assert (out / "overlays/c.png").read_bytes() == before


def test_one_page_and_channel_of_a_stack(tmp_path, weights, monkeypatch):
    seen = []
    monkeypatch.setattr(
        detection.predict, "find_cells", lambda _, image: (seen.append(image), (CELLS, [0.9, 0.8, 0.7]))[1]
    )
    stack = np.random.default_rng(1).integers(0, 255, (3, 2, 50, 60), np.uint8)
    path, out = tmp_path / "stack.ome.tif", tmp_path / "out"
    tifffile.imwrite(path, stack, metadata={"axes": "TCYX"}, photometric="minisblack", ome=True)
    common = {"images": [str(path)], "weights": weights, "out": out}
    with pytest.raises(
        InputError, match=r"3 times, 2 channels.*a page from 1 to 3 \(--page\) and a channel from 1 to 2"
    ):
        run_prediction(PredictConfig(**common))
    run_prediction(PredictConfig(**common, page=3, channel=2))
    (image,) = seen
    assert np.array_equal(image, stack[2, 1])
    assert [(row["file"], row["name"]) for row in rows_of(out)] == [(str(path), "stack.ome_page3_channel2")]
    assert (out / "labels" / "stack.ome_page3_channel2.tif").is_file()
    with pytest.raises(InputError, match=r"holds the results of other pictures, such as stack.ome.tif"):
        run_prediction(PredictConfig(**common, page=1, channel=2))
    assert [row["name"] for row in rows_of(out)] == ["stack.ome_page3_channel2"]


def test_the_threshold_reaches_the_network(tmp_path, weights, monkeypatch):
    seen = []

    def look(model, _):
        seen.append(model.roi_heads.box_predictor[-1].test_score_thresh)
        return [], []

    monkeypatch.setattr(detection.predict, "find_cells", look)
    said = []
    config = PredictConfig(images=[picture(tmp_path / "a.png")], weights=weights, out=tmp_path / "o", score=0.01)
    run_prediction(config, said.append)
    assert seen == [0.01]
    assert "--score" in said[0]
    assert [rows_of(tmp_path / "o")[0][k] for k in ("cells", "mean_area_px", "foreground_fraction")] == [
        "0",
        "",
        "0.0000",
    ]


@pytest.mark.parametrize(("tile", "parts"), [(None, 1), (0, 1), (128, 12), (400, 1)])
def test_when_an_image_is_cut_into_tiles(monkeypatch, tile, parts):
    calls = []
    monkeypatch.setattr(detection.predict, "find_cells", lambda _, part: calls.append(part.shape) or ([], []))
    predict_image(build_model(MICRO), np.zeros((300, 400), np.uint8), tile)
    assert len(calls) == parts
    with pytest.raises(ValueError, match="at least 128 pixels"):
        PredictConfig(images=["a"], weights="w", out="o", tile=64)


def test_limits_on_proposals_go_by_area():
    """260 × 352 pixels are a quarter of LIVECell's image."""
    model = build_model(MICRO)
    network = model.proposal_generator
    before = dict(network.pre_nms_topk), dict(network.post_nms_topk)
    assert before[0][False] == MICRO.candidates_test
    with proposals_by_area(model, 260 * 352):
        assert network.pre_nms_topk == {True: MICRO.candidates_train, False: MICRO.candidates_test // 4}
        assert network.post_nms_topk == {True: MICRO.proposals_train, False: MICRO.proposals_test // 4}
    assert (network.pre_nms_topk, network.post_nms_topk) == before
    with proposals_by_area(model, 1):
        assert network.post_nms_topk[False] == 1


@pytest.fixture(scope="module")
def trained():
    config = PretrainConfig(data="A172", out="unused", crop=96, iterations=400, warmup=10, lr=3e-3)
    model = build_model(MICRO.model_copy(update={"candidates_test": 2700, "proposals_test": 2700}))
    data = culture(images=4, height=160, width=160, cells=25)
    fit(model, Crops(TrainingSet(data, None, 0, factor=1), 96, 0, 800), config, watcher=Watcher(), log_dir=None)
    return model.eval()


SURE = 0.4


def iou(a: Instance, b: Instance) -> float:
    frames = np.zeros((2, 400, 400), bool)
    for frame, cell in zip(frames, (a, b), strict=True):
        x0, y0, x1, y1 = cell.box
        frame[y0:y1, x0:x1] = cell.mask
    return float((frames[0] & frames[1]).sum() / (frames[0] | frames[1]).sum())


def test_tiles_find_what_one_piece_finds(trained):
    """Confident cells: counts within 5 %; 95 % have a partner of IoU 0.75 or more; the median IoU is above 0.95.

    Below that, each tile brings proposals of its own, so tiles see more of what the network doubts.
    """
    image = culture(images=1, height=352, width=384, cells=60, seed=9)
    pixels = image.image(image.records[0])
    whole, tiled = predict_image(trained, pixels, 0), predict_image(trained, pixels, 256)
    sure, sure_tiled = (sum(score > SURE for score in found.scores) for found in (whole, tiled))
    assert sure > 30
    assert abs(sure_tiled - sure) <= 0.05 * sure
    best = np.array([max(iou(a, b) for b in tiled.cells) for a in whole.cells[:sure]])
    assert np.mean(best >= 0.75) >= 0.95
    assert np.median(best) > 0.95


def test_portions_change_nothing(trained, monkeypatch):
    image = torch.from_numpy(culture(seed=3).image(culture(seed=3).records[0]).copy())[None]
    with torch.no_grad():
        (ours,) = trained.inference([{"image": image}], do_postprocess=False)
        monkeypatch.setattr(detection.heads, "BOX_CHUNK", 7)
        monkeypatch.setattr(detection.heads, "MASK_CHUNK", 3)
        sizes = []
        trained.roi_heads.mask_head.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        pooled = trained.roi_heads.box_pooler.register_forward_hook(lambda *given: sizes.append(len(given[2])))
        (small,) = trained.inference([{"image": image}] * 1, do_postprocess=False)
        pooled.remove()
        monkeypatch.setattr(trained.roi_heads, "__class__", CascadeROIHeads)
        (plain,) = trained.inference([{"image": image}], do_postprocess=False)
        trained.roi_heads.mask_head._forward_pre_hooks.clear()
    assert len(plain) > 7
    assert max(sizes[:-1]) == 7
    for found in (ours, small):
        assert torch.allclose(found.pred_boxes.tensor, plain.pred_boxes.tensor, atol=1e-3)
        assert torch.allclose(found.scores, plain.scores, atol=1e-5)
        assert torch.allclose(found.pred_masks, plain.pred_masks, atol=1e-4)


def test_portions_keep_the_images_of_a_batch_apart(trained, monkeypatch):
    data = culture(images=2, seed=3)
    inputs = [{"image": torch.from_numpy(data.image(r).copy())[None]} for r in data.records]
    monkeypatch.setattr(detection.heads, "BOX_CHUNK", 7)
    with torch.no_grad():
        together = trained.inference(inputs, do_postprocess=False)
        apart = [trained.inference([one], do_postprocess=False)[0] for one in inputs]
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3)
        assert torch.allclose(a.pred_masks, b.pred_masks, atol=1e-4)


def test_cells_are_detectron2s_own_masks(trained):
    data = culture(seed=4)
    pixels = data.image(data.records[0])
    cells, scores = find_cells(trained, pixels)
    with torch.no_grad():
        (made,) = trained.inference([{"image": torch.from_numpy(pixels.copy())[None], "height": 96, "width": 128}])
    masks = made["instances"].pred_masks.numpy()
    there = masks.any((1, 2))
    assert len(cells) == there.sum() > 5
    differing = 0
    for cell, mask in zip(cells, masks[there], strict=True):
        frame = np.zeros((96, 128), bool)
        x0, y0, x1, y1 = cell.box
        frame[y0:y1, x0:x1] = cell.mask
        differing += int((frame ^ mask).sum())
    assert differing <= 2  # pixels whose probability is 0.5 to the last bit
    assert scores == pytest.approx(made["instances"].scores.numpy()[there].tolist(), abs=1e-6)
