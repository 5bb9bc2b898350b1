"""R-FCN's nets of models/rfcn.py: committed as written, and equal to the published files they are named after."""

import hashlib
import sys
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.check.diff import layers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import rfcn  # noqa: E402 - the path comes first

# net, split -> layers but for the data's, and the SHA-256 of them (see `digest`), taken from the files of the release
# in Python that `netspec diff-net --body` calls equal
PUBLISHED = {
    ("voc-rfcn-resnet50", "released"): (249, "2ce6d053f2ed32e6"),
    ("voc-rfcn-resnet50-ohem", "released"): (253, "93b0d0f924447a4f"),
    ("voc-rfcn-resnet50-aware-ohem", "released"): (253, "9cf29ebba4818aad"),
    ("voc-rfcn-resnet50", "deploy"): (244, "6be547df2da84553"),
    ("voc-rfcn-resnet50-aware", "deploy"): (244, "26a4e4ff72b90d4a"),
    ("voc-rfcn-resnet50-ohem", "released-rpn1"): (191, "48714472af8d7580"),
    ("voc-rfcn-resnet50-ohem", "released-rpn2"): (191, "73632faacf24f9c7"),
    ("voc-rfcn-resnet50-ohem", "released-rfcn1"): (241, "c144c8cc0c166365"),
    ("voc-rfcn-resnet50-ohem", "rpn"): (191, "11befdf39db3345c"),
    ("voc-rfcn-resnet50-ohem", "rfcn"): (236, "1de9c8ea8f1e380b"),
    ("voc-rfcn-resnet101", "released"): (470, "4c5c2f53acba2014"),
    ("voc-rfcn-resnet101-ohem", "released"): (474, "2e10466257a84f15"),
    ("voc-rfcn-resnet101-aware-ohem", "released"): (474, "04dbd31bcdaf1bcf"),
    ("voc-rfcn-resnet101", "deploy"): (465, "4e7c0499b89199d2"),
    ("voc-rfcn-resnet101-aware", "deploy"): (465, "08d971a39148921c"),
    ("voc-rfcn-resnet101-ohem", "released-rpn1"): (412, "e5a889ebb1d27e50"),
    ("voc-rfcn-resnet101-ohem", "released-rpn2"): (412, "f6d911a3d70b8ae9"),
    ("voc-rfcn-resnet101-ohem", "released-rfcn1"): (462, "000dce8bb8b37c64"),
    ("voc-rfcn-resnet101-ohem", "rpn"): (412, "ac530f6462c5b95f"),
    ("voc-rfcn-resnet101-ohem", "rfcn"): (457, "26b5b6319855bb99"),
    ("coco-rfcn-resnet101-ohem", "released-rfcn1"): (462, "644a87c9560856a0"),
    ("coco-rfcn-resnet101-ohem", "rfcn"): (457, "72087465b55fb1fe"),
}


def digest(net):
    """Of all that `diff-net --body` compares, whatever the layers' order."""
    found = sorted((layer.name, sorted(layer.fields({}, {}).items())) for layer in layers(net, body=True)
                   if layer.type != "Input")
    return len(found), hashlib.sha256(repr(found).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", rfcn.KEPT)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    rfcn.write(name, rfcn.KEPT[name], tmp_path)
    written = {path.name: path.read_text() for path in (tmp_path / name).iterdir()}
    assert written == {path.name: path.read_text() for path in (ROOT / "models" / name).iterdir()}


@pytest.mark.parametrize("name, split", PUBLISHED)
def test_equal_to_the_published_net(name, split):
    assert digest(rfcn.generate(name, split)) == PUBLISHED[name, split]


@pytest.mark.parametrize("name, k", [("shapes-rfcn", 3), ("shapes-rfcn-k1", 1), ("voc-rfcn-resnet50", 7), ("voc-rfcn-resnet50-k3", 3)])
def test_maps_of_a_group_size(name, k):
    found = {layer.name: layer for layer in rfcn.generate(name, "deploy").layer}
    classes = rfcn.NETS[name].data.classes
    assert found["rfcn_cls"].convolution_param.num_output == classes * k * k
    assert found["rfcn_bbox"].convolution_param.num_output == 8 * k * k
    assert {found[f"psroipooled_{x}_rois"].psroi_pooling_param.group_size for x in ("cls", "loc")} == {k}
    assert found["ave_cls_score_rois"].pooling_param.kernel_size == k


def test_the_last_steps_keep_the_layers_that_both_share():
    mults = {step: {layer.name: layer.param[0].lr_mult for layer in rfcn.generate("voc-rfcn-resnet50", step).layer
                    if layer.type == "Convolution"} for step in rfcn.STEPS}
    assert {name for name, mult in mults["rfcn2"].items() if mult} == {
        "res5a_branch1", *(f"res5{unit}_branch2{x}" for unit in "abc" for x in "abc"), "conv_new_1", "rfcn_cls", "rfcn_bbox"}
    assert {name for name, mult in mults["rpn2"].items() if mult} == {"rpn_conv/3x3", "rpn_cls_score", "rpn_bbox_pred"}
    assert mults["rfcn1"]["res4a_branch1"] == mults["rpn1"]["res4a_branch1"] == 1 and not mults["rfcn1"]["res2a_branch1"]


@pytest.mark.parametrize("name, split, message", [
    ("voc-rfcn-resnet5", "train", "there is no net 'voc-rfcn-resnet5'.*did you mean 'voc-rfcn-resnet50'"),
    ("voc-rfcn-resnet50", "tran", "has no split 'tran' .there are train, test, deploy"),
])
def test_unknown_names(name, split, message):
    with pytest.raises(Error, match=message):
        rfcn.generate(name, split)
