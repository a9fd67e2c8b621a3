"""The whole network: LIVECell's names and shapes, batch normalisation over processes, sizes at test time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances
from pydantic import ValidationError
from torch import nn

import detection.norm
from detection.checkpoint import hash_state
from detection.model import build_model, state_entries
from detection.network import ModelConfig
from detection.presets import PRESETS, preset
from tests.detection.culture import MICRO
from tests.detection.published import livecell_entries

ANCHORS = "proposal_generator.anchor_generator.cell_anchors."


def test_livecell_has_exactly_the_published_entries():
    published = {e["name"]: (tuple(e["shape"]), e["dtype"], e["kind"]) for e in livecell_entries()}
    assert len(published) == 2152
    found = {e.name: (e.shape, e.dtype, e.kind) for e in state_entries(preset("livecell").network)}
    # The published file also keeps its anchors, which newer detectron2 computes instead.
    anchors = {name for name in published if name.startswith(ANCHORS)}
    assert len(anchors) == 6
    assert found == {name: entry for name, entry in published.items() if name not in anchors}


def test_the_entries_are_those_of_the_model_itself():
    model = build_model(MICRO)
    weights = dict(model.named_parameters())
    for entry, (name, tensor) in zip(state_entries(MICRO), model.state_dict().items(), strict=True):
        assert entry == (
            name,
            tuple(tensor.shape),
            str(tensor.dtype)[6:],
            "parameter" if name in weights else "buffer",
        )


def test_tiny_keeps_the_weights_of_its_seed():
    # Results in the databases of users were made from these.
    assert hash_state(build_model(ModelConfig(), 0).state_dict()) == "94f3100b3dd520af"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_through_a_file(name):
    network = preset(name).network
    assert ModelConfig.model_validate_json(network.model_dump_json()) == network


@pytest.mark.parametrize(
    ("backend", "size", "kind"),
    [(None, 1, nn.BatchNorm2d), ("gloo", 2, nn.BatchNorm2d), ("nccl", 1, nn.BatchNorm2d), ("nccl", 2, nn.SyncBatchNorm),
     ("cpu:gloo,cuda:nccl", 2, nn.SyncBatchNorm)],
)  # fmt: skip
def test_statistics_span_processes_only_where_torch_can(monkeypatch, backend, size, kind):
    distributed = detection.norm.distributed
    monkeypatch.setattr(distributed, "is_initialized", lambda: backend is not None)
    monkeypatch.setattr(distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(distributed, "get_world_size", lambda: size)
    config = MICRO.model_copy(
        update={"norm": "SyncBN", "fpn_norm": "SyncBN", "box_norm": "SyncBN", "mask_norm": "SyncBN"}
    )
    plain = MICRO.model_copy(update={"norm": "BN", "fpn_norm": "BN", "box_norm": "BN", "mask_norm": "BN"})
    model = build_model(config)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    assert norms
    assert {type(m) for m in norms} == {kind}
    assert list(model.state_dict()) == list(build_model(plain).state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radix": 2}, "need block resnest"),
        ({"deformable": (True, False, False, False)}, "need block resnest"),
        ({"block": "resnest", "stages": (32, 64, 128, 250)}, "multiples of expansion 4"),
        ({"block": "resnest", "radix": 3}, "cannot be split by radix"),
        ({"block": "resnest", "deformable": (True, False, False, False), "deform_groups": 3}, "by deform_groups"),
        ({"anchor_levels": ("p2", "p2")}, "2 anchor_levels have 4 anchor_sizes"),
        ({"roi_levels": ("p2", "p4")}, "without a gap"),
        ({"roi_levels": ()}, "without a gap"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    ("norm", "part"),
    [("norm", "backbone.bottom_up."), ("fpn_norm", "backbone.fpn_"), ("box_norm", "roi_heads.box_head."),
     ("mask_norm", "roi_heads.mask_head.")],
)  # fmt: skip
def test_each_part_has_its_own_normalisation(norm, part):
    fpn = MICRO.model_copy(update={"fpn": 32, "stem": 32, "stages": (32, 64, 96, 128), "box_conv_dim": 32,
                                   "mask_dim": 32, "norm": "GN" if norm == "norm" else "BN", norm: "GN"})  # fmt: skip
    groups = [name for name, module in build_model(fpn).named_modules() if isinstance(module, nn.GroupNorm)]
    assert groups
    assert all(name.startswith(part) for name in groups)


class Square(nn.Module):
    """Heads that find one box, a known share of what they see."""

    def forward(self, images, features, proposals, targets):
        found = Instances(images.image_sizes[0])
        height, width = images.image_sizes[0]
        found.pred_boxes = Boxes(torch.tensor([[0.25 * width, 0.5 * height, 0.75 * width, 1.2 * height]]))
        found.scores = torch.tensor([0.9])
        found.pred_masks = torch.ones(1, 1, 28, 28)
        return [found], {}


@pytest.mark.parametrize(
    ("height", "width", "seen"), [(40, 60, (100, 150)), (20, 90, (44, 200)), (120, 300, (80, 200))]
)
def test_images_are_resized_at_test_time_and_answers_are_in_their_pixels(height, width, seen):
    model = build_model(MICRO.model_copy(update={"test_shortest": 100, "test_longest": 200})).eval()
    sizes = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    model.roi_heads = Square()
    image = torch.randint(0, 255, (1, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        (raw,) = model.inference([{"image": image}], do_postprocess=False)
        (pasted,) = model([{"image": image}])
    assert sizes[0] == tuple(-(-side // 32) * 32 for side in seen)  # padded to the pyramid's stride
    expected = torch.tensor([[0.25 * width, 0.5 * height, 0.75 * width, float(height)]])  # clipped
    torch.testing.assert_close(raw.pred_boxes.tensor, expected)
    assert raw.image_size == (height, width)
    assert raw.pred_masks.shape == (1, 1, 28, 28)
    torch.testing.assert_close(pasted["instances"].pred_boxes.tensor, expected)
    assert pasted["instances"].pred_masks.shape == (1, height, width)


@pytest.mark.parametrize(("height", "width"), [(52, 70), (160, 210)])
def test_the_resize_is_detectron2s_own(height, width):
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    model = build_model(MICRO.model_copy(update={"test_shortest": 80, "test_longest": 133}))
    found = model._resize(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    expected = ResizeShortestEdge(80, 133).get_transform(image).apply_image(image)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1.0  # Pillow rounds after each axis
