"""Weights of others: what fits is taken, what does not is named, and nothing in a file runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision

pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")

from detection.backbone import build_backbone
from detection.checkpoint import backbone_state, hash_state, load_checkpoint, load_weights, save_checkpoint
from detection.model import build_model, constants
from detection.network import ModelConfig
from detection.presets import preset
from detection.untrusted import read_untrusted
from policy_search.cells.errors import InputError
from tests.detection.culture import MICRO
from tests.detection.published import livecell_entries

# LIVECell's network with everything in it, only narrower.
NARROW = preset("livecell").network.model_copy(
    update={"stem": 16, "stages": (32, 64, 96, 128), "blocks": (1, 2, 1, 1), "fpn": 16, "box_conv_dim": 16,
            "box_fc_dim": 16, "mask_dim": 16}
)  # fmt: skip
PLAIN = NARROW.model_copy(update={"deformable": (False,) * 4, "deform_groups": 1})


def published(config: ModelConfig = NARROW, seed: int = 7) -> dict:
    """As detectron2's checkpointer wrote LIVECell's files: anchors in the state, numpy numbers beside it."""
    state = OrderedDict(build_model(config, seed).state_dict())
    state.update({name: value for name, value in constants(config).items() if "cell_anchors" in name})
    return {
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(0.02)}]},
        "scheduler": {"last_epoch": 29999, "base_lrs": [np.float32(0.02)], "milestones": np.array([17500, 20000])},
        "iteration": 29999,
    }


def write(tmp_path, content, name="published.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def wipe(path) -> None:
    """Overwrite a file in place, as a program that writes it anew would."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_file_loads_by_name(tmp_path, zipped):
    content = published()
    path = write(tmp_path, content, _use_new_zipfile_serialization=zipped)
    checkpoint = load_weights(path, NARROW)
    expected = build_model(NARROW, 7).state_dict()
    assert list(checkpoint.state) == list(expected)
    assert all(torch.equal(checkpoint.state[name], expected[name]) for name in expected)
    assert checkpoint.content_hash == hash_state(expected)
    assert checkpoint.config == NARROW
    assert checkpoint.made == {"command": "foreign", "file": "published.pth", "iteration": 29999}
    assert f"matched {len(expected)} of {len(expected)} weights" in checkpoint.report
    assert "left: proposal_generator.anchor_generator.cell_anchors.0" in checkpoint.report
    wipe(path)
    assert hash_state(checkpoint.state) == checkpoint.content_hash  # the state does not hang on the file
    build_model(NARROW).load_state_dict(checkpoint.state)


def test_the_narrow_model_has_the_published_kinds_of_entries():
    def kinds(names):
        digits = str.maketrans("", "", "0123456789")
        return {name.translate(digits) for name in names}

    assert kinds(published()["model"]) == kinds(entry["name"] for entry in livecell_entries())


def test_arrays_and_half_precision_become_the_networks_types(tmp_path):
    content = {name: tensor.numpy() for name, tensor in published()["model"].items()}
    content["backbone.fpn_output2.weight"] = torch.from_numpy(content["backbone.fpn_output2.weight"]).half()
    checkpoint = load_weights(write(tmp_path, {"model": content}), NARROW)
    expected = build_model(NARROW, 7).state_dict()
    assert {n: t.dtype for n, t in checkpoint.state.items()} == {n: t.dtype for n, t in expected.items()}
    torch.testing.assert_close(checkpoint.state, dict(expected), rtol=1e-3, atol=1e-4)
    assert "adapted: backbone.fpn_output2.weight: float16 to float32" in checkpoint.report


def without_counters(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def test_files_without_batch_counters_load(tmp_path):
    checkpoint = load_weights(write(tmp_path, {"model": without_counters(published()["model"])}), NARROW)
    assert checkpoint.content_hash == hash_state(build_model(NARROW, 7).state_dict())


def missing(state):
    del state["roi_heads.mask_head.predictor.bias"]


def unexpected(state):
    state["roi_heads.mask_head.extra"] = torch.zeros(2)


def shape(state):  # three classes instead of one
    state["roi_heads.box_predictor.0.cls_score.weight"] = torch.zeros(4, 16)


@pytest.mark.parametrize(
    ("change", "message", "name"),
    [
        (missing, "1 missing (roi_heads.mask_head.predictor.bias)", "roi_heads.mask_head.predictor.bias"),
        (unexpected, "1 unexpected (roi_heads.mask_head.extra)", None),
        (shape, "1 of another shape (roi_heads.box_predictor.0.cls_score.weight [4, 16] float32 for [2, 16] float32)",
         "roi_heads.box_predictor.0.cls_score.weight"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_refused_unless_allowed(tmp_path, change, message, name):
    content = published()
    change(content["model"])
    path = write(tmp_path, content)
    with pytest.raises(InputError) as refused:
        load_weights(path, NARROW)
    assert message in str(refused.value)
    others = {"missing", "unexpected", "shape"} - {change.__name__}
    with pytest.raises(InputError):
        load_weights(path, NARROW, allow=others)
    checkpoint = load_weights(path, NARROW, allow=(change.__name__,))
    expected, fresh = build_model(NARROW, 7).state_dict(), build_model(NARROW).state_dict()
    assert list(checkpoint.state) == list(expected)
    for entry, tensor in checkpoint.state.items():
        assert torch.equal(tensor, (fresh if entry == name else expected)[entry]), entry


def test_whole_numbers_are_no_weights(tmp_path):
    content = published()
    content["model"]["roi_heads.mask_head.predictor.bias"] = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(InputError, match="int64 for"):
        load_weights(write(tmp_path, content), NARROW)


def test_a_misspelt_allowance_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot allow 'shapes'"):
        load_weights(write(tmp_path, published()), NARROW, allow=("shapes",))


def test_other_anchors_or_pixels_are_another_model(tmp_path):
    content = published()
    content["model"]["proposal_generator.anchor_generator.cell_anchors.3"] *= 2
    content["model"]["pixel_mean"] = torch.full((3, 1, 1), 103.5)
    content["model"]["pixel_std"] = torch.full((3, 1, 1), 11.578)
    with pytest.raises(InputError, match=r"2 unexpected \(.*cell_anchors.3, pixel_mean\)"):
        load_weights(write(tmp_path, content), NARROW)


def test_a_model_for_colour_becomes_one_for_grey(tmp_path):
    grey = NARROW.model_copy(update={"channels": 1})
    checkpoint = load_weights(write(tmp_path, published()), grey)
    assert "stem.conv1_1.weight: 3 input channels summed to 1" in checkpoint.report
    colour, ours = build_model(NARROW, 7).eval(), build_model(grey).eval()
    ours.load_state_dict(checkpoint.state)
    plane = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        expected, found = colour.backbone(plane.expand(-1, 3, -1, -1)), ours.backbone(plane)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_our_own_files_need_no_preset_and_take_no_other(tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, build_model(MICRO, 5), MICRO, {"seed": 5})
    for checkpoint in (load_weights(path), load_weights(path, MICRO), load_checkpoint(path)):
        assert (checkpoint.config, checkpoint.made, checkpoint.report) == (MICRO, {"seed": 5}, "")
        assert checkpoint.content_hash == hash_state(build_model(MICRO, 5).state_dict())
    kept = load_weights(path)
    wipe(path)
    assert hash_state(kept.state) == kept.content_hash
    save_checkpoint(path, build_model(MICRO, 5), MICRO, {})
    with pytest.raises(InputError, match="another network than the preset"):
        load_weights(path, NARROW)


def test_files_of_the_first_version_still_load(tmp_path):
    # The fields that ModelConfig had then; the others must default to what it was.
    first = """channels pixel_mean pixel_std stem stages blocks norm fpn anchor_sizes anchor_ratios rpn_batch
        candidates_train candidates_test proposals_train proposals_test rois roi_scale roi_samples box_convs
        box_conv_dim box_fc_dim box_resolution cascade_ious mask_convs mask_dim mask_resolution
        score_threshold nms detections"""
    content = {
        "format": 1, "model": build_model(MICRO, 5).state_dict(), "made": "{}",
        "config": MICRO.model_dump_json(include=set(first.split())),
    }  # fmt: skip
    assert load_checkpoint(write(tmp_path, content)).config == MICRO


def test_a_foreign_file_needs_its_network(tmp_path):
    path = write(tmp_path, published())
    with pytest.raises(InputError, match="--preset livecell"):
        load_weights(path)
    with pytest.raises(InputError, match="--preset livecell"):
        load_checkpoint(path)


def timm_names(bottom_up_state, prefix="") -> dict[str, torch.Tensor]:
    """Our names → timm's, written down independently of the rules under test."""
    renamed = {}
    for name, tensor in bottom_up_state.items():
        parts = name.split(".")
        if parts[0] == "stem":
            at = {"conv1_1": ("conv1.0", "conv1.1"), "conv1_2": ("conv1.3", "conv1.4"), "conv1_3": ("conv1.6", "bn1")}
            new = at[parts[1]]["norm" in parts]
        else:
            new = f"layer{int(parts[0][3]) - 1}.{parts[1]}."
            if parts[2] == "shortcut":
                new += "downsample.2" if "norm" in parts else "downsample.1"
            elif parts[2] in ("conv1", "conv3"):
                new += f"bn{parts[2][4]}" if "norm" in parts else parts[2]
            else:
                new += ".".join(parts[2:-1])
        renamed[f"{prefix}{new}.{parts[-1]}"] = tensor
    return renamed


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "module", "converted"])
def test_imagenet_weights_start_a_backbone(tmp_path, wrap):
    expected = build_backbone(PLAIN).bottom_up.state_dict()
    content = timm_names(expected, "module." if wrap == "module" else "")
    content["module.fc.weight" if wrap == "module" else "fc.weight"] = torch.zeros(1000, 128)
    if wrap == "state_dict":
        content = {"state_dict": content, "epoch": 3}
    if wrap == "converted":  # by the ResNeSt fork of detectron2
        content = {"model": {**expected, "linear.weight": torch.zeros(1000, 128)}}
    state, report = backbone_state(write(tmp_path, content), PLAIN)
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert f"matched {len(expected)} of {len(expected)} weights" in report
    assert "left: " in report


def test_torchvisions_resnet_starts_the_r50_backbone(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None).eval()
    state, report = backbone_state(write(tmp_path, theirs.state_dict()), preset("r50").network)
    assert "left: fc.weight, fc.bias" in report
    ours = build_backbone(preset("r50").network).bottom_up.eval()
    ours.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(ours(image)["res5"], expected, rtol=1e-4, atol=1e-4)


def test_imagenet_weights_in_a_deformable_backbone_start_as_the_plain_one(tmp_path):
    plain = build_backbone(PLAIN).bottom_up.eval()
    state, report = backbone_state(write(tmp_path, timm_names(plain.state_dict())), NARROW)
    assert "8 offsets of deformable convolutions start at 0" in report
    deformable = build_backbone(NARROW).bottom_up.eval()
    deformable.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(deformable(image), plain(image), rtol=1e-4, atol=1e-4)


def test_the_backbone_of_a_whole_model_can_be_taken(tmp_path):
    state, report = backbone_state(write(tmp_path, published()), NARROW)
    expected = build_model(NARROW, 7).backbone.bottom_up.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert "roi_heads" in report or "backbone.fpn" in report


def test_a_backbone_is_no_model_and_another_depth_does_not_fit(tmp_path):
    path = write(tmp_path, timm_names(build_backbone(PLAIN).bottom_up.state_dict()))
    with pytest.raises(InputError, match="a backbone without heads: start `detect pretrain`"):
        load_weights(path, PLAIN)
    deeper = PLAIN.model_copy(update={"blocks": (1, 2, 1, 2)})
    with pytest.raises(InputError, match=r"missing \(backbone.bottom_up.res5.1.conv1.weight"):
        backbone_state(path, deeper)
    state, _ = backbone_state(path, deeper, allow=("missing",))
    assert "res5.1.conv1.weight" not in state


class Bomb:
    def __init__(self, folder) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_does_not_run(tmp_path, zipped):
    content = {**published(), "hook": Bomb(tmp_path / "exploded")}
    path = write(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="author's code, which is never done"):
        load_weights(path, NARROW)
    assert not (tmp_path / "exploded").exists()


def test_objects_inside_numpy_arrays_do_not_run(tmp_path):
    array = np.empty(1, dtype=object)
    array[0] = Bomb(tmp_path / "exploded")
    with pytest.raises(InputError):
        load_weights(write(tmp_path, {**published(), "scores": array}), NARROW)
    assert not (tmp_path / "exploded").exists()


def test_a_bare_pickle_does_not_run(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": Bomb(tmp_path / "exploded")}))
    with pytest.raises(InputError):
        load_weights(tmp_path / "model.pkl", NARROW)
    assert not (tmp_path / "exploded").exists()


def squeezed() -> bytes:
    """A zip like torch's whose tensor unfolds to a thousand times its size."""
    inside = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(1 << 18)}}, inside)
    outside = io.BytesIO()
    with zipfile.ZipFile(inside) as source, zipfile.ZipFile(outside, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return outside.getvalue()


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404 Not Found</html>", "is a web page"),
        (b'\n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        ((9).to_bytes(8, "little") + b'{"a": {} ' + b"0" * 99, "is a safetensors file"),
        (b"II*\x00" + bytes(99), "is not a weights file"),
        (b"\x80\x02" + bytes(99), "is not a weights file"),
        (pickle.dumps({"model": [1, 2]}), "is not a weights file"),
        (squeezed(), "is compressed"),
        (saved([torch.zeros(2)]), "expected a state dict, found list"),
        (saved({"model": {"epoch": 3}}), "holds no named weights"),
        (saved({"encoder.weight": torch.zeros(2)}), "neither a detectron2 model nor a ResNet"),
    ],
)
def test_files_that_are_no_weights_get_one_sentence(tmp_path, content, message):
    path = tmp_path / "download.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_weights(path, NARROW)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_download_that_was_cut_off_is_refused(tmp_path, share, zipped):
    path = write(tmp_path, published(), _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"(download|fetch) it again") as refused:
        load_weights(path, NARROW)
    assert "\n" not in str(refused.value)


def test_a_shape_that_memory_cannot_hold_is_never_copied(tmp_path):
    content = published()
    content["model"]["roi_heads.mask_head.predictor.bias"] = torch.zeros(1).expand(1 << 40)
    with pytest.raises(InputError, match="of another shape"):
        load_weights(write(tmp_path, content), NARROW)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        load_weights(tmp_path / "none.pth", NARROW)
    with pytest.raises(InputError, match="no weights at"):
        read_untrusted(tmp_path / "none.pth")
