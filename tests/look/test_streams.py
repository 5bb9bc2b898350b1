"""The streams of Figure 3: of the published nets, of other trunks and heads, and each planted fault told apart."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from net.test_graph import DATA, conv, net

from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.look.streams import FIGURE3, deviations, in_words, outline, streams
from netspec.net.build import build
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.pycaffe.script import read_or_generate

MODELS = Path(__file__).resolve().parents[2] / "models"
TEST = caffe_pb2.TEST
CONV7, POOL4, POOL3 = ("conv7", "fc7", 32), ("pool4", "pool4", 16), ("pool3", "pool3", 8)
FIGURE = {
    "voc-fcn32s": ([(*CONV7, ())], 32, [19]),
    "voc-fcn16s": ([(*CONV7, (2,)), (*POOL4, ())], 16, [5, 27]),
    "voc-fcn8s": ([(*CONV7, (2, 2)), (*POOL4, (2,)), (*POOL3, ())], 8, [5, 9, 31]),
}


def read(name, kind="deploy"):
    return prototext.read_net(MODELS / name / f"{kind}.prototxt")


def layer(made, name):
    return next(each for each in made.layer if each.name == name)


def only(made):
    """The one prediction of a net, built if its sizes fit."""
    try:
        built = build(made, TEST)
    except Error:
        built = outline(made, TEST)
    (found,) = streams(built)
    return found


def held(capsys, *args):
    status = cli.main(["diff-net", *map(str, args), "--figure3"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


# nets that are the figure's

@pytest.mark.parametrize("name", FIGURE)
def test_the_published_nets_are_the_figure(name):
    streams, factor, offsets = FIGURE[name]
    p = only(read(name))
    assert [(s.role, s.source, s.stride, s.steps) for s in p.streams] == streams
    assert (p.blob, p.stride, p.steps, p.covers) == ("score", factor, (factor,), True)
    assert {(s.kernel, s.classes, s.weight, s.image, s.scales) for s in p.streams} == {(1, 21, 1, "data", ())}
    fits = [fit for s in p.streams for fit in s.fits] + list(p.fits)
    assert [fit.offset for fit in fits] == [fit.wanted for fit in fits] == [(offset,) for offset in offsets]
    assert all(fit.aligned for fit in (*fits, *p.sums))
    assert deviations(p) == deviations(p, factor) == []


@pytest.mark.parametrize("name", FIGURE)
def test_rows_are_told_from_each_other(name):
    own, p = FIGURE[name][1], only(read(name))
    for row in FIGURE3:
        assert bool(deviations(p, row)) == (row != own)


@pytest.mark.parametrize("name", FIGURE)
@pytest.mark.parametrize("kind", ["train", "val"])  # their data sets need not be there
def test_the_command(capsys, name, kind):
    status, out, err = held(capsys, MODELS / name / f"{kind}.prototxt")
    assert (status, err) == (0, "") and f"equals the figure's FCN-{FIGURE[name][1]}s" in out
    assert len(re.findall("aligned", out)) == len(FIGURE[name][2])


def test_the_command_with_a_row(capsys):
    status = cli.main(["diff-net", str(MODELS / "voc-fcn16s" / "deploy.prototxt"), "--figure3", "8s"])
    assert status == 1 and "pool3 x1 is missing" in capsys.readouterr().out
    assert cli.main(["diff-net", "--figure3", str(MODELS / "voc-fcn16s" / "deploy.prototxt")]) == 0
    assert cli.main(["diff-net", "--figure3"]) == 2
    assert cli.main(["diff-net", str(MODELS / "voc-fcn16s" / "deploy.prototxt"), "--figure3", "64s"]) == 2
    assert "takes one of own, 32s, 16s, 8s, found '64s'" in capsys.readouterr().err


# planted faults: what is changed -> what must be said, and nothing else

def sets(name, change):
    def plant(made):
        change(layer(made, name))
    return plant


def offset(n):
    return lambda each: each.crop_param.offset.__setitem__(0, n)


def stride(n):
    return lambda each: each.convolution_param.stride.__setitem__(0, n)


def bottom(blob, i=0):
    return lambda each: each.bottom.__setitem__(i, blob)


def without_skip(made):
    """upscore_pool4 and what stands on it, without pool3."""
    layer(made, "upscore8").bottom[0] = "upscore_pool4"
    for name in ("score_pool3", "score_pool3c", "fuse_pool3"):
        made.layer.remove(layer(made, name))


def uncut(made):
    layer(made, "fuse_pool4").bottom[1] = "score_pool4"
    made.layer.remove(layer(made, "score_pool4c"))


def twice(made):
    layer(made, "fuse_pool4").bottom.append("score_pool4c")


def padded(made):
    p = layer(made, "score_pool4").convolution_param
    p.kernel_size[0], p.pad[:] = 3, [1]


def product(each):
    each.eltwise_param.operation = caffe_pb2.EltwiseParameter.PROD


def difference(each):
    each.eltwise_param.coeff.extend([1, -1])


FAULTS = {
    "wrong skip": ("voc-fcn16s", None, sets("score_pool4", bottom("pool3")), [
        "pool4 x1 is missing", "'pool3' (stride 8) is the figure's pool3; FCN-16s sums conv7 + pool4",
        "'upscore16' is cut to 'data' from 27", "'score_pool4' is cut to 'upscore2' from 5",
        "'fc7' (stride 32) has stride 16 where"]),
    "inside a block": ("voc-fcn16s", 16, sets("score_pool4", bottom("conv4_2")), [
        "pool4 x1 is missing", "'conv4_2' (stride 8) has no place in the figure", "'fc7' (stride 32) has stride 16 where it is "
        "summed, the sum has 8", "'score_pool4' is cut to 'upscore2' from 5", "'upscore16' is cut to 'data' from 27"]),
    "behind the pooling": ("voc-fcn16s", None, sets("score_pool4", bottom("conv5_2")), [
        "pool4 x1 is missing", "'conv5_2' (stride 16) has no place in the figure"]),
    "not the end of the trunk": ("voc-fcn16s", None, sets("score_fr", bottom("pool5")), [
        "conv7 x2 is missing", "'pool5' (stride 32) is the figure's pool5; FCN-16s sums conv7 + pool4",
        "'score_pool4' is cut to 'upscore2' from 5: 'score_pool4' cannot be cropped"]),
    "missing skip": ("voc-fcn8s", 8, without_skip, [
        "pool3 x1 is missing", "'fc7' (stride 32) is upsampled x2 before the sum; FCN-8s has conv7 x4 (2 x 2)",
        "'pool4' (stride 16) is upsampled x1 before the sum; FCN-8s has pool4 x2", "the last upsampling is x16; FCN-8s has x8"]),
    "a skip twice": ("voc-fcn16s", None, twice, ["'pool4' (stride 16) is one more stream from that place"]),
    "first factor": ("voc-fcn16s", None, sets("upscore2", stride(4)), [
        "'fc7' (stride 32) is upsampled x4 before the sum; FCN-16s has conv7 x2", "'fc7' (stride 32) has stride 8 where",
        "'score_pool4' is cut to 'upscore2' from 5: 'score_pool4' cannot be cropped to 'upscore2': one step on it is 2 steps"]),
    "last factor": ("voc-fcn8s", None, sets("upscore8", stride(4)), [
        "the last upsampling is x4; FCN-8s has x8", "'upscore8' is cut to 'data' from 31: 'upscore8' cannot be cropped"]),
    "last crop": ("voc-fcn32s", None, sets("score", offset(20)), [
        "'upscore' is cut to 'data' from 20: the coordinate maps say 19"]),
    "half a pixel": ("voc-fcn32s", None, sets("upscore", lambda each: each.convolution_param.kernel_size.__setitem__(0, 63)), [
        "'upscore' is cut to 'data' from 19: 'upscore' cannot be cropped to 'data': it lies 37/2 away"]),
    "not the image": ("voc-fcn32s", None, sets("score", bottom("conv1_1", 1)), [
        "'score' is cut to 'conv1_1', which is not the image",
        "'upscore' is cut to 'conv1_1' from 19: 'upscore' cannot be cropped"]),
    "no crop": ("voc-fcn16s", None, uncut, [
        "'score_pool4' lies uncut on 'upscore2': the coordinate maps say 5", "'upscore16' is cut to 'data' from 27"]),
    "unequal classes": ("voc-fcn16s", None, sets("score_pool4", lambda each: setattr(each.convolution_param, "num_output", 20)), [
        "the streams have 21, 20 classes"]),
    "a product": ("voc-fcn8s", None, sets("fuse_pool4", product), [
        "conv7 x4 (2 x 2) is missing", "pool4 x2 is missing", "'fuse_pool4' (stride 16) has no place in the figure",
        "'fuse_pool4' (stride 16) is scored by no convolution", "the streams have 0, 21 classes"]),
    "a difference": ("voc-fcn16s", None, sets("fuse_pool4", difference), [
        "the streams are summed 1, -1 times; in the figure they weigh the same"]),
    "3x3 score": ("voc-fcn16s", None, padded, [
        "'pool4' (stride 16) is scored by 'score_pool4', a convolution of kernel_size 3; the figure scores by 1x1"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told(fault):
    name, row, plant, expected = FAULTS[fault]
    made = read(name, "train")
    plant(made)
    (p,) = streams(outline(made, TEST))
    told = deviations(p, row)
    for each in expected:
        assert any(each in sentence for sentence in told), (each, told)
    assert len(told) == len(expected), told


@pytest.mark.parametrize("name", FIGURE)
@pytest.mark.parametrize("by", [-1, 1])
def test_every_misaligned_crop_is_told(name, by):
    made = read(name, "train")
    for each in made.layer:
        if each.type == "Crop":
            right = each.crop_param.offset[0]
            each.crop_param.offset[0] = right + by
            (p,) = streams(outline(made, TEST))
            told = deviations(p)
            cut = f"'{each.bottom[0]}' is cut to '{each.bottom[1]}'"
            assert told[0] == f"{cut} from {right + by}: the coordinate maps say {right}"
            each.crop_param.offset[0] = right


@pytest.mark.parametrize("offsets, given", [([19, 19], (19,)), ([19, 18], (19, 18))])
def test_an_offset_for_each_axis_is_as_right_as_one_for_all(offsets, given):
    made = read("voc-fcn32s", "train")
    layer(made, "score").crop_param.offset[:] = offsets
    (found,) = streams(outline(made, TEST))
    assert [(fit.offset, fit.aligned) for fit in found.fits] == [(given, given == (19,))]


def test_the_outline_is_the_graph():
    made = read("voc-fcn8s")
    assert streams(outline(made, TEST)) == streams(build(made, TEST))


def test_a_net_that_cannot_be_built_is_judged_all_the_same(capsys, tmp_path):
    made = read("voc-fcn16s", "train")
    layer(made, "score_pool4").convolution_param.num_output = 20
    prototext.write(tmp_path / "net.prototxt", made)
    status, out, _ = held(capsys, tmp_path / "net.prototxt")
    assert status == 1
    assert "-  the streams have 21, 20 classes" in out and "-  the net cannot be built: " in out
    for old, new in (('bottom: "pool4"', 'bottom: "pool44"'), ('type: "Crop"', 'type: "AutoCrop"')):
        (tmp_path / "net.prototxt").write_text(prototext.to_text(made).replace(old, new))
        status, out, err = held(capsys, tmp_path / "net.prototxt")  # what is wrong is then all there is to say
        assert (status, out) == (2, "") and "net.prototxt:" in err


# other trunks, heads and sums

OTHERS = {
    "voc-fcn-alexnet": 32, "voc-fcn-googlenet": 32, "voc-fcn8s-atonce": 8, "nyud-fcn32s-color": 32, "nyud-fcn32s-color-d": 32,
    "nyud-fcn32s-hha": 32, "nyud-fcn32s-color-hha": 32, "nyud-fcn16s-color-hha": 16, "siftflow-fcn16s": 16, "siftflow-fcn8s": 8,
    "pascalcontext-fcn8s": 8, "camvid-fcn8s": 8, "shapes-fcn16s": 16,
}


def generated(name, split="train"):
    return read_or_generate(f"{MODELS / 'fcn.py'}:{name}/{split}")


@pytest.mark.parametrize("name", OTHERS)
def test_the_papers_other_nets_are_the_figure_too(name):
    found = streams(outline(generated(name), TEST))
    assert len(found) == 1 + name.startswith("siftflow")
    assert all((p.factor, deviations(p)) == (OTHERS[name], []) for p in found)


@pytest.mark.parametrize("name, first", [
    ("voc-fcn-pool3", "conv7 x4 (2 x 2) is missing"), ("voc-fcn-pool4", "conv7 x2 is missing"),
    ("voc-fcn-pool5", "conv7 x1 is missing"), ("voc-fcn-atrous", "pool4 x1 is missing"),
])
def test_the_studies_are_not(name, first):
    (p,) = streams(outline(generated(name), TEST))
    assert deviations(p)[0] == first


def test_two_heads():
    sem, geo = streams(outline(generated("siftflow-fcn8s"), TEST))
    assert [(p.blob, {s.classes for s in p.streams}) for p in (sem, geo)] == [("score_sem", {33}), ("score_geo", {3})]
    assert [s.source for s in sem.streams] == [s.source for s in geo.streams] == ["fc7", "pool4", "pool3"]


def test_late_fusion():
    (p,) = streams(outline(generated("nyud-fcn16s-color-hha"), TEST))
    assert [(s.role, s.image, s.weight) for s in p.streams] == [
        ("conv7", "color", 0.5), ("conv7", "hha", 0.5), ("pool4", "color", 0.5), ("pool4", "hha", 0.5)]
    assert {(fit.blob, fit.reference, fit.aligned) for fit in p.sums} >= {("score_frhha", "score_frcolor", True)}


def test_scaled_sources():
    (p,) = streams(outline(generated("voc-fcn8s-atonce"), TEST))
    assert [(s.source, s.scales) for s in p.streams] == [("fc7", ()), ("pool4", ("scale_pool4",)), ("pool3", ("scale_pool3",))]


def pool(name, bottom, stride=2):
    return (f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" '
            f"pooling_param {{ kernel_size: {stride} stride: {stride} }} }}\n")


def deconv(name, bottom, factor, outputs=4):
    return conv(name, bottom, outputs, more=f"stride: {factor} bias_term: false").replace("Convolution", "Deconvolution").replace(
        "kernel_size: 1", f"kernel_size: {factor}")


def eltwise(name, *bottoms, more=""):
    read = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "{name}" type: "Eltwise" {read} top: "{name}" eltwise_param {{ {more} }} }}\n'


IMAGE = DATA.replace("dim: 8 dim: 9", "dim: 64 dim: 32")
TRUNK = IMAGE + pool("pool4", "data", 16) + conv("more", "pool4") + pool("pool5", "more") + conv("deep", "pool5")


def test_a_sum_of_three_without_crops():
    p = only(net(TRUNK + conv("a", "deep") + deconv("up", "a", 2) + conv("b", "pool4") + conv("c", "more")
                 + eltwise("sum", "up", "b", "c", more="coeff: 1 coeff: 2 coeff: -1") + deconv("all", "sum", 16)))
    assert [(s.source, s.role, s.weight) for s in p.streams] == [("deep", "conv7", 1), ("pool4", "pool4", 2), ("more", "", -1)]
    assert [(fit.blob, fit.offset, fit.aligned) for fit in (*p.sums, *p.fits)] == [
        ("b", None, True), ("c", None, True), ("all", None, True)]
    assert deviations(p) == ["'more' (stride 16) has no place in the figure: no pooling that halves the grid, and not "
                                "the end of the trunk",
                                "the streams are summed 1, 2, -1 times; in the figure they weigh the same"]
    assert [re.findall(r"\S+ times", line) for line in in_words(p)[1:4]] == [[], ["2 times"], ["-1 times"]]


def test_fractions_of_a_pixel():
    up = deconv("all", "a", 32).replace("kernel_size: 32", "kernel_size: 33")
    (fit,) = only(net(TRUNK + conv("a", "deep") + up)).fits
    assert (fit.offset, fit.wanted, fit.aligned) == (None, (Fraction(1, 2),), False)


def test_strided_convolutions_make_places_too():
    halves = "stride: 2"
    text = IMAGE + "".join(conv(f"c{i}", f"c{i - 1}" if i else "data", more=halves) for i in range(5)) + conv("d", "c3")
    text += conv("a", "c4") + deconv("up", "a", 2) + conv("b", "d") + eltwise("sum", "up", "b")
    p = only(net(text + deconv("all", "sum", 16)))
    assert [(s.source, s.role) for s in p.streams] == [("c4", "conv7"), ("d", "conv7")]


def test_softmax_and_other_outputs_are_no_predictions():
    p = only(net(TRUNK + conv("a", "deep") + deconv("all", "a", 32) + pool("aside", "data")
                 + 'layer { name: "prob" type: "Softmax" bottom: "all" top: "prob" }\n'))
    assert (p.blob, p.factor) == ("all", 32)


def test_where_there_are_no_streams(capsys):
    with pytest.raises(Error, match="no map of scores made by a convolution"):
        streams(build(net(IMAGE + pool("p", "data"))))
    apart = 'layer { name: "flat" type: "Tile" bottom: "pool5" top: "flat" tile_param { axis: 2 tiles: 2 } }\n'
    with pytest.raises(Error, match="no coordinate maps lead from 'a' to an image"):
        streams(build(net(TRUNK + apart + conv("a", "flat"))))
    status, out, err = held(capsys, MODELS / "voc-fcn9s" / "deploy.prototxt")
    assert status == 2 and "is not there" in err
    wide = conv("a", "deep") + deconv("up", "a", 2).replace("stride: 2", "stride_h: 2 stride_w: 1")
    with pytest.raises(Error, match="Figure 3 has one factor for both"):
        streams(build(net(TRUNK + wide)))
