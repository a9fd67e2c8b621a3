"""Memory of inference at 3,000 detections: plain detectron2 beside this package, same weights, one process each.

    python scripts/bench_inference_memory.py --out memory.json

The network has the box and mask heads of LIVECell's published model on the tiny backbone, with random weights; no score
is too low and hardly any overlap too large, so that 3,000 detections come out of one 520×704 image of noise. Plain is
`GeneralizedRCNN.inference` with detectron2's own `CascadeROIHeads` and `detector_postprocess`; ours is
`detection.find.find_cells`. Takes minutes. Linux only (peak memory as the kernel counts it).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, DETECTIONS = 520, 704, 3000


def network(convs: tuple[int, int]):
    from detection.network import ModelConfig

    return ModelConfig(
        fpn=256, box_convs=convs[0], box_conv_dim=256, box_fc_dim=1024, mask_convs=convs[1], mask_dim=256,
        candidates_test=6000, proposals_test=DETECTIONS, detections=DETECTIONS, score_threshold=0.0, nms=0.999,
    )  # fmt: skip


def measure(side: str, path: Path, convs: tuple[int, int]) -> None:
    """One side in this process: tight boxes, scores and mask bits to `path`, figures to standard output."""
    import torch
    from detectron2.modeling.roi_heads import CascadeROIHeads

    from detection.find import find_cells
    from detection.model import build_model

    torch.set_num_threads(1)
    model = build_model(network(convs)).eval()
    image = np.random.default_rng(0).normal(128, 11.6, (HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
    with torch.no_grad():
        # Fresh weights answer 0.5 everywhere, where the last bit decides: make the masks decided.
        model.roi_heads.mask_head.predictor.weight.mul_(1e4)
    before = _peak()
    started = time.perf_counter()
    if side == "plain":
        model.roi_heads.__class__ = CascadeROIHeads
        with torch.no_grad():
            (made,) = model.inference([{"image": torch.from_numpy(image)[None], "height": HEIGHT, "width": WIDTH}])
        found = made["instances"]
        seconds, peak = time.perf_counter() - started, _peak()
        boxes, scores = found.pred_boxes.tensor.numpy(), found.scores.tolist()
        tight = [_tight(mask.numpy()) for mask in found.pred_masks]
        scores = [score for score, cell in zip(scores, tight, strict=True) if cell]
        cells = [cell for cell in tight if cell]
    else:
        raw = model.inference
        kept = []
        model.inference = lambda *a, **k: kept.append(raw(*a, **k)) or kept[0]  # for the boxes
        instances, scores = find_cells(model, image)
        seconds, peak = time.perf_counter() - started, _peak()
        boxes = kept[0][0].pred_boxes.tensor.numpy()
        cells = [(cell.x0, cell.y0, cell.mask) for cell in instances]
    places = np.array([(x, y, *mask.shape) for x, y, mask in cells])
    bits = np.packbits(np.concatenate([mask.ravel() for _, _, mask in cells]))
    np.savez(path, boxes=boxes, places=places, bits=bits, scores=np.array(scores))
    figures = {"detections": len(boxes), "masks": len(cells), "seconds": round(seconds, 1), "peak_mb": peak}
    sys.stdout.write(json.dumps({**figures, "peak_before_mb": before}))


def _tight(mask: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(xs[0]), int(ys[0]), mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]) if len(ys) else None


def _masks(found: dict[str, np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    bits = np.unpackbits(found["bits"]).astype(bool)
    start = 0
    for x, y, height, width in found["places"].tolist():
        yield x, y, bits[start : start + height * width].reshape(height, width)
        start += height * width


def _difference(a: tuple[int, int, np.ndarray], b: tuple[int, int, np.ndarray]) -> int:
    """Pixels in one of two masks alone."""
    frames = []
    for x, y, mask in (a, b):
        frame = np.zeros((HEIGHT, WIDTH), bool)
        frame[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        frames.append(frame)
    return int(np.count_nonzero(frames[0] ^ frames[1]))


def _peak() -> int:
    """Largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--box-convs", type=int, default=4)
    parser.add_argument("--mask-convs", type=int, default=8)
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    convs = (options.box_convs, options.mask_convs)
    if options.side:
        measure(options.side, options.found, convs)
        return
    figures: dict = {"box_convs": convs[0], "mask_convs": convs[1], "image": [HEIGHT, WIDTH]}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("plain", "ours"):
            path = Path(folder) / f"{side}.npz"
            command = [sys.executable, __file__, "--side", side, "--found", str(path), "--box-convs", str(convs[0]),
                       "--mask-convs", str(convs[1])]  # fmt: skip
            figures[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[side] = dict(np.load(path))
            sys.stdout.write(f"{side}: {figures[side]}\n")
    plain, ours = found["plain"], found["ours"]
    figures["ratio"] = round(figures["plain"]["peak_mb"] / figures["ours"]["peak_mb"], 2)
    if any(plain[name].shape != ours[name].shape for name in ("boxes", "places", "scores")):
        raise SystemExit("the two sides found different numbers of cells")
    figures["largest_box_difference_px"] = float(np.abs(plain["boxes"] - ours["boxes"]).max())
    figures["largest_score_difference"] = float(np.abs(plain["scores"] - ours["scores"]).max())
    pairs = list(zip(_masks(plain), _masks(ours), strict=True))
    figures["mask_pixels"] = sum(int(mask.sum()) for (_, _, mask), _ in pairs)
    figures["mask_pixels_that_differ"] = sum(_difference(a, b) for a, b in pairs)
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in figures.items()))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
