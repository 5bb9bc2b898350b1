"""The generated nets: committed as written, equal to the published ones, and fit for any image size."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.data.facts import known
from netspec.data.layouts import ILSVRC
from netspec.net import graph
from netspec.net.build import build, load
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import fcn  # noqa: E402, I001 - the path comes first; where runs left a folder studies/, ruff would part them
import studies  # noqa: E402

GOLDEN = json.loads(gzip.decompress((Path(__file__).parents[1] / "golden" / "nets.json.gz").read_bytes()))
UNPUBLISHED = [name for name in fcn.NETS if name not in GOLDEN]


def home(name):
    """The folder of a net, within models/."""
    return f"studies/{name}" if name in studies.KEPT else name


@pytest.mark.parametrize("name", fcn.NETS)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    fcn.write(name, tmp_path)
    written = {p.name: p.read_text() for p in (tmp_path / home(name)).iterdir()}
    assert written == {p.name: p.read_text() for p in (ROOT / "models" / home(name)).iterdir()}


def settings(message):
    """A message as the golden facts have it: field -> value, enums by name."""
    found = {}
    for field, value in message.ListFields():
        values = list(value) if hasattr(value, "extend") else [value]
        values = [settings(v) if field.message_type else field.enum_type.values_by_number[v].name if field.enum_type
                  else float(f"{v:.7g}") if isinstance(v, float) else v for v in values]
        found[field.name] = values if hasattr(value, "extend") else values[0]
    return found


def facts(layer, built):
    """A layer as the golden facts have it."""
    own = {k: v for k, v in settings(layer).items() if k.endswith("_param") and k != "python_param"}
    params = [[list(slot.shape), slot.lr_mult, slot.decay_mult] for slot in built.node(layer.name).params]
    return [layer.name, layer.type, list(layer.bottom), list(layer.top), own, params]


def built_for(net, phase, size, golden):
    tops = [top for layer in net.layer if not layer.bottom for top in layer.top]
    return build(net, phase, shapes={top: tuple(golden["shapes"][size][top]) for top in tops})


@pytest.mark.parametrize("name", fcn.NETS)
def test_deploy_nets_say_their_data_set_but_the_release_says_nothing(name):
    net, file = fcn.generate(name, "deploy"), ROOT / "models" / home(name) / "deploy.prototxt"
    facts = known(net.layer[0], file)
    names = {"shapes": "star", "camvid": "Car", "38cloud": "cloud", "clouds": "cloud"}
    if name.partition("-")[0] in names:
        assert names[name.partition("-")[0]] in facts.facts.names
        assert facts.mean == (facts.facts.mean if "38cloud" not in name else pytest.approx((*ILSVRC, sum(ILSVRC) / 3)))
        assert facts.resize == (0.5 if "half" in name or "cloud" in name else 1)
    else:
        assert not any(layer.HasField("python_param") for layer in net.layer) and facts[:4] == (None, 1, 1, None)


@pytest.mark.parametrize("name", GOLDEN)
def test_nets_equal_the_published_ones(name):
    golden = GOLDEN[name]
    for split in golden["splits"]:
        net = prototext.read_net(ROOT / "models" / name / f"{split}.prototxt")
        phase = caffe_pb2.TRAIN if split.startswith("train") else caffe_pb2.TEST
        built = built_for(net, phase, "256x256", golden)
        assert [facts(layer, built) for layer in net.layer if layer.bottom] == golden["layers"]
        assert [top for layer in net.layer if not layer.bottom for top in layer.top] == golden["data_tops"]


@pytest.mark.parametrize("name", GOLDEN)
def test_blobs_have_the_published_shapes_at_all_sizes(name):
    net = fcn.generate(name)
    for size, shapes in GOLDEN[name]["shapes"].items():
        built = built_for(net, caffe_pb2.TRAIN, size, GOLDEN[name])
        assert {v.blob: list(s) for v, s in built.shapes.items()} == shapes


def test_the_deploy_net_equals_the_published_one():
    net = prototext.read_net(ROOT / "models" / "voc-fcn8s" / "deploy.prototxt")
    assert [layer.name for layer in net.layer if layer.bottom] == GOLDEN["voc-fcn8s"]["deploy"]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_heavy_solvers_equal_the_published_ones(name):
    golden = dict(GOLDEN[name]["solver"])
    solver = settings(prototext.read_solver(ROOT / "solvers" / "heavy" / f"{name}.prototxt"))
    for field in ("train_net", "test_net", "snapshot_prefix"):  # paths: ours start from the project's folder
        theirs, ours = golden.pop(field, None), solver.pop(field)
        if field != "snapshot_prefix":
            theirs, ours = ([v] if isinstance(v, str) else v for v in (theirs, ours))
            assert ours == [f"models/{name}/{file}" for file in theirs]
    added = {"weights", "solver_mode"}  # solve.py of the release loads them, and sets the mode
    assert {k: v for k, v in solver.items() if k not in added} == golden


SIZES = {"shapes": 33, "clouds": 33}  # the smallest image


def covers(built, net, sizes):
    for height, width in sizes:
        shapes = built.infer({top: (1, channels, height, width) for top, channels in net.data.images.items()})
        for head in net.data.heads:
            assert shapes[graph.Value("score" + head.suffix)][2:] == (height, width)


@pytest.mark.parametrize("name", fcn.NETS)
def test_the_output_covers_images_of_any_size(name):
    least = next((SIZES[family] for family in SIZES if name.startswith(family + "-fcn")), 1)
    built = load(ROOT / "models" / home(name) / "deploy.prototxt")
    covers(built, fcn.NETS[name], [(size, 2 * least + 127 - size) for size in range(least, least + 128, 1 + 6 * (least == 1))])


@pytest.mark.parametrize("family", [*fcn.FAMILIES, "camvid-half", "camvid-crops"])
def test_the_variants_of_the_studies_exist_for_every_family(family):
    for name, net in fcn.ALL.items():
        if not name.startswith(f"{family}-fcn"):
            continue
        size = 128 if "unpool" in name or "double" in name else 100
        balanced = "balanced" in name or family == "camvid-crops"
        for split in ("train", "deploy")[balanced:]:  # the matrix of weights is the user's to make
            made = fcn.generate(name, split)
            tops = {top: (1, net.data.images.get(top, 1), size, size) for x in made.layer if not x.bottom for top in x.top}
            shapes = build(made, caffe_pb2.TEST, shapes=tops).shapes
            assert all(shapes[graph.Value("score" + head.suffix)][2:] == (size, size) for head in net.data.heads)


def test_what_the_variants_are():
    def body(name, split="train"):
        return {layer.name: layer for layer in fcn.generate(name, split).layer}

    fixed = body("voc-fcn32s-fixed")
    assert {layer.name for layer in fixed.values() if layer.param and layer.param[0].lr_mult} == {"score_fr"}
    assert {p.lr_mult for p in fixed["score_fr"].param} == {1, 2}
    assert "conv5_1" not in body("voc-fcn-pool4") and list(body("voc-fcn-pool4")["score_pool4"].bottom) == ["pool4"]
    learned = body("voc-fcn8s-learned")
    assert [learned[k].param[0].lr_mult for k in ("upscore2", "upscore_pool4", "upscore8")] == [1, 1, 0]
    atrous = body("voc-fcn-atrous")
    assert atrous["pool5"].pooling_param.stride == 1
    assert list(atrous["fc6"].convolution_param.dilation) == [2]
    assert list(body("voc-fcn32s-sampled25")["loss"].bottom) == ["score", "sampled"]
    assert list(body("voc-fcn32s-sampled25", "val")["loss"].bottom) == ["score", "label"]
    assert body("voc-fcn32s-balanced")["loss"].type == "InfogainLoss"
    unpool, double, plain = (body(f"shapes-fcn-{name}") for name in ("unpool", "double", "unpool-plain"))
    assert list(unpool["double5"].bottom) == ["bn_narrow5", "mask5"] and unpool["double5"].type == "Upsample"
    assert double["double5"].type == "Deconvolution" and double["double5"].convolution_param.group == 128
    assert {*unpool} == {*double} and {*unpool} - {*plain} == {name for name in unpool if name.startswith("bn")}
    assert body("shapes-fcn-unpool-louder")["double1"].power_param.scale == 2
    assert body("shapes-fcn32s-bn")["bn5_2"].type == "BN"
    one, two = (body(f"38cloud{variant}-fcn8s", "val") for variant in ("-sigmoid", ""))
    assert (one["loss"].type, two["loss"].type) == ("SigmoidCrossEntropyLoss", "SoftmaxWithLoss")
    assert [x["score_pool3"].convolution_param.num_output for x in (one, two)] == [1, 2]
    late = body("nyud-fcn16s-color-hha")
    assert list(late["score_fused"].bottom) == ["score_frcolor", "score_frhha"]
    assert list(late["score_pool4_fused"].eltwise_param.coeff) == [0.5, 0.5]


def test_googlenet_has_22_convolutions_one_behind_another_and_one_loss():
    net = fcn.generate("voc-fcn-googlenet")
    depth = {}
    for layer in net.layer:
        behind = max((depth.get(b, 0) for b in layer.bottom), default=0)
        for top in layer.top:
            depth[top] = max(depth.get(top, 0), behind + (layer.type == "Convolution"))
    assert depth["score"] == 22
    assert [layer.type for layer in net.layer].count("SoftmaxWithLoss") == 1
    assert not any(layer.pooling_param.pool for layer in net.layer if layer.type == "Pooling")  # MAX is 0, AVE 1


def test_nets_of_patches_read_four_bands_and_no_labels_where_truth_is_by_the_scene():
    for name in ("38cloud-fcn8s", "clouds-fcn8s"):
        train, test = fcn.generate(name), fcn.generate(name, "test")
        assert [[*net.layer[0].top] for net in (train, test)] == [["data", "label"], ["data"]]
        assert not any("Loss" in layer.type for layer in test.layer)
        shapes = load(ROOT / "models" / name / "deploy.prototxt").shapes
        assert shapes[graph.Value("data")][1] == 4 and shapes[graph.Value("score")][1] == 2


def test_unknown_nets_and_splits_are_named():
    with pytest.raises(Error, match="no net 'voc-fcn64s'.*voc-fcn"):
        fcn.generate("voc-fcn64s")
    with pytest.raises(Error, match="no net 'voc-fcn64s'"):
        fcn.write("voc-fcn64s")
    with pytest.raises(Error, match="no split 'test'.*train, val, deploy, paper"):
        fcn.generate("voc-fcn8s", "test")


def recipes():
    return sorted(p.relative_to(ROOT / "solvers").with_suffix("").as_posix() for p in (ROOT / "solvers").rglob("*-fcn*.prototxt"))


@pytest.mark.parametrize("name", recipes())
def test_each_solver_names_nets_that_are_there_and_says_what_to_expect(name):
    path = ROOT / "solvers" / f"{name}.prototxt"
    p = prototext.read_solver(path)
    net = name.rpartition("/")[2].removesuffix("-longer")  # the same net for more steps
    assert p.train_net.startswith(f"models/{home(net)}/") and p.test_net[0].startswith(f"models/{home(net)}/")
    assert (ROOT / p.train_net).exists() and (ROOT / p.test_net[0]).exists()
    assert p.snapshot_prefix == f"snapshot/{name}"
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"solvers/{name}.prototxt" in line and "tools/solve.py" in line for line in head)
    assert any("Needs" in line for line in head) and any("Time" in line for line in head)
    assert any("cores" in line for line in head) and any("mean IU" in line for line in head)
    matrices = [x.infogain_loss_param.source for x in prototext.read_net(ROOT / p.train_net).layer if x.type == "InfogainLoss"]
    assert all(any(matrix in line for line in head) for matrix in matrices)
    for weights in p.weights:  # a file of the stage before, or one that the header says how to get
        stage = weights.removeprefix("snapshot/").rpartition("_iter_")
        if weights.startswith("snapshot/"):
            before = prototext.read_solver(ROOT / "solvers" / f"{stage[0]}.prototxt")
            assert stage[2] == f"{before.max_iter}.caffemodel"
        else:
            assert any(weights in line for line in head)


@pytest.mark.parametrize("name", fcn.NETS)
def test_every_net_has_a_recipe(name):
    assert name in recipes() and (name in GOLDEN) == (f"heavy/{name}" in recipes())


def test_recipes_are_what_the_table_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(fcn.sys, "path", [str(ROOT / "solvers"), *sys.path])
    import recipes as table
    for released, folder in ((False, ROOT / "solvers"), (True, ROOT / "solvers" / "heavy")):
        for name in table.names(released):
            assert table.text(name, released) == (folder / f"{name}.prototxt").read_text()


@pytest.mark.parametrize("family", ["voc", "camvid", "siftflow", "pascalcontext"])
def test_recipes_mirror_the_paper(family):
    rates = []
    for stride in (32, 16, 8):
        p = prototext.read_solver(ROOT / "solvers" / f"{family}-fcn{stride}s.prototxt")
        assert (p.lr_policy, p.type, p.iter_size) == ("fixed", "SGD", 20)
        assert (p.momentum, p.weight_decay) == pytest.approx((0.9, 5e-4))
        rates.append(p.base_lr)
        net = prototext.read_net(ROOT / p.train_net)
        assert all(layer.loss_param.normalize for layer in net.layer if layer.type == "SoftmaxWithLoss")
    assert rates == pytest.approx([1e-4, 1e-6, 1e-8])


def test_rates_of_the_other_trunks():
    rates = [prototext.read_solver(ROOT / "solvers" / f"voc-fcn-{name}.prototxt").base_lr for name in ("alexnet", "googlenet")]
    assert rates == pytest.approx([1e-3, 5e-5])


def test_where_fewer_cells_count_a_step_has_more_images():
    steps = [prototext.read_solver(ROOT / "solvers" / f"voc-fcn32s{name}.prototxt").iter_size
             for name in ("", "-sampled50", "-sampled25")]
    assert steps == [20, 40, 80]


OTHER = ("alexnet", "googlenet")  # as their authors had them


@pytest.mark.parametrize("name", [name for name in fcn.NETS if not name.endswith(OTHER)])
def test_biases_learn_twice_as_fast_and_scores_start_at_zero(name):
    for layer in fcn.generate(name).layer:
        if layer.type == "Convolution":
            weight, bias = layer.param
            assert bias.lr_mult == 2 * weight.lr_mult and (weight.decay_mult, bias.decay_mult) == (1, 0)
            if layer.name.startswith("score"):
                assert not layer.convolution_param.HasField("weight_filler")
        if layer.type == "Deconvolution":
            assert layer.param[0].lr_mult == 0


@pytest.mark.parametrize("name", fcn.NETS)
def test_splits_differ_in_their_data_alone(name):
    nets = {p.stem: prototext.read_net(p) for p in (ROOT / "models" / home(name)).glob("*.prototxt")}
    other = ("Dropout", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "InfogainLoss", "Python", "Concat")  # not in all nets, or named by their data
    body = {split: [x.SerializeToString() for x in net.layer if x.bottom and x.type not in other]
            for split, net in nets.items() if split != "paper"}
    if "deploy" in body and name == "voc-fcn-googlenet":  # its Dropout is not in place
        body.pop("deploy")
    assert all(layers == body[fcn.NETS[name].data.train] for layers in body.values())
