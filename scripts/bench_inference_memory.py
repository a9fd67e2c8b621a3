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
    before = _peak()
    started = time.perf_counter()
    if side == "plain":
        model.roi_heads.__class__ = CascadeROIHeads
        with torch.no_grad():
            (made,) = model.inference([{"image": torch.from_numpy(image)[None], "height": HEIGHT, "width": WIDTH}])
        found = made["instances"]
        seconds, peak = time.perf_counter() - started, _peak()
        cells = [_tight(mask.numpy()) for mask in found.pred_masks]
        kept = [i for i, cell in enumerate(cells) if cell]
        scores = found.scores[kept].tolist()
        cells = [cells[i] for i in kept]
    else:
        instances, scores = find_cells(model, image)
        seconds, peak = time.perf_counter() - started, _peak()
        cells = [(cell.x0, cell.y0, cell.mask) for cell in instances]
    places = np.array([(x, y, *mask.shape) for x, y, mask in cells])
    bits = np.packbits(np.concatenate([mask.ravel() for _, _, mask in cells]))
    np.savez(path, places=places, bits=bits, scores=np.array(scores))
    figures = {"detections": len(cells), "seconds": round(seconds, 1), "peak_mb": peak, "before_mb": before}
    sys.stdout.write(json.dumps(figures))


def _tight(mask: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(xs[0]), int(ys[0]), mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]) if len(ys) else None


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
    same = plain["places"].shape == ours["places"].shape
    figures["same_places"] = bool(same and (plain["places"] == ours["places"]).all())
    figures["different_pixels"] = (
        int(np.unpackbits(plain["bits"] ^ ours["bits"]).sum()) if figures["same_places"] else None
    )
    figures["largest_score_difference"] = float(np.abs(plain["scores"] - ours["scores"]).max()) if same else None
    sys.stdout.write(f"ratio {figures['ratio']}, same places and sizes: {figures['same_places']}, ")
    sys.stdout.write(f"pixels that differ: {figures['different_pixels']}\n")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
