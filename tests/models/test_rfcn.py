"""R-FCN's nets of models/rfcn.py: committed as written, and equal to the published files they are named after."""

import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from data.test_detection import item, write

from netspec.base.errors import Error
from netspec.check.diff import layers
from netspec.cli import main as cli
from netspec.net import rewrite, weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.proto.model import write_weights
from netspec.proto.text import read_solver

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import rfcn  # noqa: E402 - the path comes first

# net, split -> layers but for the data's, and the SHA-256 of them (see `digest`), taken from the files of the release
# in Python that `netspec diff-net --body` calls equal
PUBLISHED = {
    ("voc-rfcn-resnet50", "released"): (249, "a1c96e22df5e46c9"),
    ("voc-rfcn-resnet50-ohem", "released"): (253, "848253759358fc2a"),
    ("voc-rfcn-resnet50-aware-ohem", "released"): (253, "f23303152b804f4e"),
    ("voc-rfcn-resnet50", "deploy"): (244, "7071de2dd19b7737"),
    ("voc-rfcn-resnet50-aware", "deploy"): (244, "7a978021cdc84d4f"),
    ("voc-rfcn-resnet50-ohem", "released-rpn1"): (191, "f164b62cfdbb00d0"),
    ("voc-rfcn-resnet50-ohem", "released-rpn2"): (191, "cb0754e8470e0396"),
    ("voc-rfcn-resnet50-ohem", "released-rfcn1"): (241, "c144c8cc0c166365"),
    ("voc-rfcn-resnet50-ohem", "rpn"): (191, "bf153528ace56d21"),
    ("voc-rfcn-resnet50-ohem", "rfcn"): (236, "1de9c8ea8f1e380b"),
    ("voc-rfcn-resnet101", "released"): (470, "2df0e74641018290"),
    ("voc-rfcn-resnet101-ohem", "released"): (474, "36dbfddd126a2bbb"),
    ("voc-rfcn-resnet101-aware-ohem", "released"): (474, "37472500d7b8041f"),
    ("voc-rfcn-resnet101", "deploy"): (465, "f4fcda0e826e8240"),
    ("voc-rfcn-resnet101-aware", "deploy"): (465, "9ab311a8d19df385"),
    ("voc-rfcn-resnet101-ohem", "released-rpn1"): (412, "454f68de0c967cf4"),
    ("voc-rfcn-resnet101-ohem", "released-rpn2"): (412, "f48cf83ee98c486b"),
    ("voc-rfcn-resnet101-ohem", "released-rfcn1"): (462, "000dce8bb8b37c64"),
    ("voc-rfcn-resnet101-ohem", "rpn"): (412, "522d6872d1ec2e61"),
    ("voc-rfcn-resnet101-ohem", "rfcn"): (457, "26b5b6319855bb99"),
    ("coco-rfcn-resnet101-ohem", "released-rpn1"): (412, "b8d5337ef7967c49"),
    ("coco-rfcn-resnet101-ohem", "released-rpn2"): (412, "5e38f466965fa9a1"),
    ("coco-rfcn-resnet101-ohem", "released-rfcn1"): (462, "644a87c9560856a0"),
    ("coco-rfcn-resnet101-ohem", "rpn"): (412, "00187d3b49e5ae82"),
    ("coco-rfcn-resnet101-ohem", "rfcn"): (457, "72087465b55fb1fe"),
    ("coco-rfcn-resnet101-ohem", "released"): (474, "825c1b8ecdc52677"),
    ("coco-rfcn-resnet101", "deploy"): (465, "318492b5c7b28180"),
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


@pytest.mark.parametrize("path", sorted((ROOT / "solvers").glob("*-rfcn*.prototxt")), ids=lambda path: path.stem)
def test_each_solver_names_nets_that_are_there_and_says_what_to_expect(path):
    p, name = read_solver(path), path.stem
    net, _, step = name.rpartition("-") if name.endswith(rfcn.STEPS) else (name, "", "train")
    assert p.train_net == f"models/{net}/{step}.prototxt" and p.snapshot_prefix == f"snapshot/{name}"
    assert all((ROOT / each).exists() for each in (p.train_net, *p.test_net)) and len(p.test_net) == len(p.test_iter)
    assert (p.momentum, p.weight_decay, p.gamma) == pytest.approx((0.9, 5e-4, 0.1)) and p.stepsize < p.max_iter
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"solvers/{name}.prototxt" in line and "tools/solve.py" in line for line in head)
    assert all(any(word in line for line in head) for word in ("Needs", "Time", "cores"))
    assert step not in ("train", "rfcn2") or any("AP50" in line for line in head)
    for start in p.weights:
        if start.startswith("snapshot/"):
            before, _, number = start.removeprefix("snapshot/").rpartition("_iter_")
            assert number == f"{read_solver(ROOT / 'solvers' / f'{before}.prototxt').max_iter}.caffemodel"
        else:
            assert any(start in line for line in head)


@pytest.mark.parametrize("layers", [50, 101])
def test_vocs_steps_have_the_releases_rates(layers):
    for step in rfcn.STEPS:
        p = read_solver(ROOT / f"solvers/voc-rfcn-resnet{layers}-ohem-{step}.prototxt")
        found = p.base_lr, p.lr_policy, p.stepsize, p.max_iter, p.iter_size, p.average_loss
        rest = ("step", 60000, 80000, 1, 100) if step.startswith("rpn") else ("step", 80000, 120000, 2, 100)
        assert found == (pytest.approx(0.001), *rest)


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """Where three images of each list of VOC stand, and the solvers. Called with ResNet's layers: makes that net's files, for
    images of 160 pixels instead of 600, and a trunk."""
    monkeypatch.chdir(tmp_path)
    for root, count in (("VOC2007", 6), ("VOC2012", 3)):
        place = tmp_path / "data/voc" / root
        write(place, [(64, 48)] * count, {f"{i:02d}": item(3 + i, 2, 40, 40, "dog" if i % 2 else "cat") for i in range(count)})
        for split, names in (("trainval", "00 01 02"), ("test", "03 04 05")):
            (place / f"ImageSets/Main/{split}.txt").write_text(names.replace(" ", "\n"))
    shutil.copytree(ROOT / "solvers", "solvers")

    def made(layers):
        folder = f"models/voc-rfcn-resnet{layers}-ohem"
        shutil.copytree(ROOT / folder, folder)
        for path in Path(folder).iterdir():
            path.write_text(path.read_text().replace(r"\'split\': ", r"\'scale\': 160, \'max_size\': 240, \'split\': "))
        trunk = Net(deploy(rfcn.generate(Path(folder).name, "train")))
        rewrite.randomise(trunk)
        for name, (weight, *_) in trunk.layers_with_params().items():  # maps as large as those of ImageNet's trunk
            weight.data.mul_({"conv1": 0.01}.get(name, 0.1 if name.endswith("_branch2c") and name.startswith("res") else 1))
        kept = {k: v for k, v in weights.layers_of(trunk).items() if k.startswith(("conv1", "bn", "scale", "res"))}
        Path("weights").mkdir()
        write_weights(f"weights/resnet{layers}.caffemodel", "random", kept)

    return made


@pytest.mark.slow
def test_vocs_four_steps_are_one_command_and_their_weights_one_net(voc, capsys):
    voc(50)
    name = "voc-rfcn-resnet50-ohem"
    stages = [f"solvers/{name}-{step}.prototxt" for step in rfcn.STEPS]
    assert cli.main(["solve", *stages, "--iterations", "1", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert cli.main(["score", f"models/{name}/joined.prototxt", f"snapshot/{name}-rfcn2_joined.caffemodel", "--strict"]) == 0


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * ("resnet101" in path.stem or path.stem.endswith("2")))
                                  for path in sorted((ROOT / "solvers").glob("voc-rfcn*.prototxt"))])
def test_doctor_finds_nothing_wrong_with_vocs_solvers(voc, capsys, path):
    trunk = path.stem.split("-")[2]
    voc(int(trunk.removeprefix("resnet")))
    for name in read_solver(path).weights:
        if not Path(name).exists():  # of a stage before
            Path(name).parent.mkdir(exist_ok=True)
            shutil.copy(f"weights/{trunk}.caffemodel", name)
    status, out = cli.main(["doctor", f"solvers/{path.name}"]), capsys.readouterr().out
    if "-rfcn" in path.stem.partition("-ohem")[2]:
        assert status == 1 and "1 problem," in out and f"proposals snapshot/{path.stem.replace('-ohem-rfcn', '-ohem-rpn')}" in out
    else:
        assert status == 0 and "0 problems" in out, out
