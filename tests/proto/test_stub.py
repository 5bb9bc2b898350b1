"""The stub of NetSpec's keywords: it is what the schema gives, and a type checker refuses what NetSpec refuses."""

import re
from pathlib import Path

import pytest

from netspec.proto import stub
from netspec.proto.types import TYPES, keywords

PROJECT = Path(__file__).resolve().parents[2]
STUBBED = ["netspec/__init__.py", *(f"netspec/proto/{name}" for name in ("caffe_pb2.pyi", "keywords.pyi", "spec.py"))]
HEAD = """from netspec import NetSpec, layers as L, params as P
n = NetSpec()
n.data, n.label = L.Data(source="lmdb", batch_size=1, ntop=2, transform_param=dict(mean_value=[104.0], mirror=True))
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """checked(text): what mypy says of a script, without the places."""
    api = pytest.importorskip("mypy.api")
    folder = tmp_path_factory.mktemp("mypy")
    files = [str(folder / "script.py"), *(str(PROJECT / name) for name in STUBBED)]

    def run(text):
        (folder / "script.py").write_text(text)
        said, problem, _ = api.run([*files, "--follow-imports=skip", "--config-file=", f"--cache-dir={folder}"])
        assert not problem
        return re.findall(r"script.py:\d+: error: (.*)  \[", said)
    return run


def test_the_stub_is_what_the_schema_gives():
    assert stub.PATH.read_text(encoding="utf-8") == stub.stub(), "make proto"


def test_every_type_takes_its_keywords():
    text = stub.stub()
    for name in TYPES:
        assert f"    def {name}(self, *bottoms: Top, ntop: int = 1, in_place: bool = False," in text
        for key, field in keywords(name).items():
            assert re.search(rf"^    {key}: ", text, re.MULTILINE) and f"    {field}: " in text


def test_the_readmes_example_is_accepted(checked):
    (example,) = re.findall("```python\n(from netspec import NetSpec.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    assert checked(example) == []


def test_what_netspec_takes_is_accepted(checked):
    assert checked(HEAD + """
n.conv = L.Convolution(n.data, name="one", num_output=3, kernel_size=[3, 5], weight_filler={"type": "msra"},
                       param=[dict(lr_mult=1), dict(lr_mult=2, decay_mult=0)], include=dict(phase="TRAIN"))
n.up = L.Deconvolution(n.conv, convolution_param=dict(num_output=3, kernel_size=4, bias_term=False))
n.pool = L.Pooling(n.up, pool="AVE", global_pooling=True)
n.loss = L.SoftmaxWithLoss(n.pool, n.label, axis=1, ignore_label=255, loss_param=dict(normalization=P.Loss.VALID))
n.own = L.Mine(n.loss, anything=1)
""") == []


REFUSED = {
    "L.Convolution(n.data, num_ouput=3)":
        'Unexpected keyword argument "num_ouput" for "Convolution" of "Layers"; did you mean "num_output"?',
    'L.Convolution(n.data, num_output="3")':
        'Argument "num_output" to "Convolution" of "Layers" has incompatible type "str"; expected "int | Array"',
    "L.Convolution(n.data, weight_filler=dict(tpe='xavier'))":
        'Argument "weight_filler" to "Convolution" of "Layers" has incompatible type "dict[str, str]"; '
        'expected "FillerParameterKeywords | FillerParameter"',
    'L.Pooling(n.data, pool="MIX")':
        'Argument "pool" to "Pooling" of "Layers" has incompatible type "Literal[\'MIX\']"; '
        "expected \"Literal['MAX', 'AVE', 'STOCHASTIC'] | int\"",
    "P.Pooling.MIX": '"type[Pooling]" has no attribute "MIX"',
}


def test_what_netspec_refuses_is_refused(checked):
    assert checked(HEAD + "\n".join(REFUSED)) == list(REFUSED.values())
