"""bfloat16 on the CPU: the heads stay float32, and a network learns as well as in float32."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.utils.events import EventStorage

from detection import precision
from detection.config import PretrainConfig
from detection.dataset import Crops, TrainingSet
from detection.mapper import batches
from detection.model import build_model
from detection.precision import autocast, float32_heads, resolve_precision, scaler_of
from detection.training import fit
from detection.watcher import Watcher
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO, culture


def test_auto_is_what_the_processor_is_good_at(monkeypatch):
    for able, expected in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert resolve_precision("auto", "cpu") == expected
    for able, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert resolve_precision("auto", "cuda:1") == expected
    assert resolve_precision("fp32", "cpu") == "fp32"
    with pytest.raises(InputError, match="needs a GPU"):
        resolve_precision("fp16", "cpu")
    with pytest.raises(InputError, match="got 'fp8'"):
        resolve_precision("fp8", "cpu")
    assert not scaler_of("bf16", "cpu").is_enabled()


def test_what_the_heads_give_out_is_float32_and_the_rest_is_not():
    model = build_model(MICRO)
    batch = next(iter(batches(Crops(TrainingSet(culture(), None, 0, factor=1), 64, 0, 2), 1, 2)))
    seen: dict[str, set[torch.dtype]] = {}

    def note(name):
        def hook(_, inputs, output):
            flat = [output] if isinstance(output, torch.Tensor) else [t for part in output for t in part]
            flat = [t for t in flat if isinstance(t, torch.Tensor)]
            seen.setdefault(name, set()).update(t.dtype for t in flat)

        return hook

    heads = model.roi_heads
    with EventStorage(0), float32_heads(model), autocast("bf16", "cpu"):
        hooks = [
            part.register_forward_hook(note(name))
            for name, part in {
                "rpn": model.proposal_generator.rpn_head,
                "boxes": heads.box_predictor[2],
                "masks": heads.mask_head.predictor,
                "backbone": model.backbone.bottom_up.res3[0].conv1,
            }.items()
        ]
        losses = model(batch)
    assert {name: kinds for name, kinds in seen.items() if name != "backbone"} == {
        name: {torch.float32} for name in ("rpn", "boxes", "masks")
    }
    assert seen["backbone"] == {torch.bfloat16}
    assert {value.dtype for value in losses.values()} == {torch.float32}
    for hook in hooks:
        hook.remove()
    assert not model.proposal_generator.rpn_head._forward_hooks
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_half_precision_is_cast_at_any_depth():
    half = torch.ones(1, dtype=torch.bfloat16)
    found = precision._float32(([half], (half, 3), torch.ones(1, dtype=torch.int64)))
    assert found[0][0].dtype == found[1][0].dtype == torch.float32
    assert found[1][1] == 3
    assert found[2].dtype == torch.int64


def test_a_network_learns_as_well_in_bfloat16():
    def losses(kind: str) -> list[float]:
        seen: list[float] = []
        config = PretrainConfig(data="A172", out="unused", crop=64, iterations=40, warmup=5, lr=3e-3, precision=kind)
        crops = Crops(TrainingSet(culture(images=1), None, 0, factor=1), 64, 0, 80)
        fit(build_model(MICRO), crops, config, watcher=Watcher(step=lambda *a: seen.append(a[2])), log_dir=None)
        return seen

    exact, short = losses("fp32"), losses("bf16")
    assert short != exact
    assert short[0] == pytest.approx(exact[0], rel=0.02)
    assert sum(short[-10:]) == pytest.approx(sum(exact[-10:]), rel=0.1)
    for seen in (short, exact):
        assert sum(seen[-10:]) < 0.97 * max(sum(seen[k : k + 10]) for k in range(30))
