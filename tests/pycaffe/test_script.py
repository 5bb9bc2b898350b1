"""`python -m netspec.run`: scripts that say `import caffe` run as they are, Python 2's get a pointer, a real caffe stays."""

import sys

import programs
import pytest
from programs import PROJECT

from netspec import run


def python(folder, *args):
    return programs.run("-m", "netspec.run", *args, cwd=folder, env=programs.environment(GLOG_minloglevel="1"))


@pytest.fixture
def scripts(tmp_path):
    """A folder of scripts below the one that they are run from."""
    (tmp_path / "scripts").mkdir()

    def write(name="job.py", text=""):
        (tmp_path / "scripts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scripts" / name).write_text(text)
        return tmp_path
    return write


NET = """
import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

def conv_relu(bottom, nout, ks=3, pad=1):
    conv = L.Convolution(bottom, kernel_size=ks, num_output=nout, pad=pad, param=[dict(lr_mult=1), dict(lr_mult=2)])
    return conv, L.ReLU(conv, in_place=True)

def small(split):
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module='own_layers', layer='Squares', ntop=2, param_str=str(dict(split=split)))
    n.conv1, n.relu1 = conv_relu(n.data, 4, pad=10)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.score_fr = L.Convolution(n.pool1, num_output=3, kernel_size=1)
    n.upscore = L.Deconvolution(n.score_fr, convolution_param=dict(num_output=3, kernel_size=4, stride=2, bias_term=False),
        param=[dict(lr_mult=0)])
    n.score = crop(n.upscore, n.data)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()

if __name__ == '__main__':
    for split in ('train', 'val'):
        with open(split + '.prototxt', 'w') as f:
            f.write(str(small(split)))
"""
LAYERS = """
import caffe
import numpy as np

class Squares(caffe.Layer):
    def setup(self, bottom, top):
        self.split = eval(self.param_str)['split']
        self.rng = np.random.RandomState(3)
    def reshape(self, bottom, top):
        self.label = self.rng.randint(0, 3, (1, 1, 9, 11))
        top[0].reshape(1, 3, 9, 11)
        top[1].reshape(*self.label.shape)
    def forward(self, bottom, top):
        top[0].data[...] = np.eye(3)[self.label[0, 0]].transpose(2, 0, 1)
        top[1].data[...] = self.label
    def backward(self, top, propagate_down, bottom):
        pass
"""
SOLVE = """
import sys
import numpy as np
import caffe
import surgery

caffe.set_device(int(sys.argv[1]))
caffe.set_mode_cpu()
open('solver.prototxt', 'w').write('''train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 3 test_interval: 999999
    test_initialization: false base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 snapshot: 3 snapshot_prefix: "snap"''')
solver = caffe.SGDSolver('solver.prototxt')
surgery.fill(solver.net)
solver.step(3)
solver.test_nets[0].share_with(solver.net)
right = 0
for _ in range(3):
    solver.test_nets[0].forward()
    right += (solver.test_nets[0].blobs['score'].data[0].argmax(0) == solver.test_nets[0].blobs['label'].data[0, 0]).sum()
print(solver.iter, right)
"""
SURGERY = """
import numpy as np
def fill(net):
    net.params['conv1'][0].data[...] = np.random.RandomState(0).randn(*net.params['conv1'][0].data.shape)
    for l in [k for k in net.params.keys() if 'up' in k]:
        m, k, h, w = net.params[l][0].data.shape
        net.params[l][0].data[range(m), range(k), :, :] = 0.25
"""


@pytest.mark.parametrize("module, name", [("own_layers", "Squares"), ("voc_layers", "VOCSegDataLayer")])
def test_a_release_of_scripts_runs_unchanged(scripts, module, name):
    """In the style of the FCN release: net.py writes the nets, solve.py trains, with a data layer and surgery beside them.

    A layer of the release's name that lies beside the script is the script's own.
    """
    scripts(f"{module}.py", LAYERS.replace("Squares", name))
    scripts("surgery.py", SURGERY)
    scripts("net.py", NET.replace("own_layers", module).replace("Squares", name))
    folder = scripts("solve.py", SOLVE) / "scripts"
    assert python(folder, "net.py").returncode == 0
    done = python(folder, "solve.py", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ") and (folder / "snap_iter_3.caffemodel").exists()


def test_the_nets_of_a_script_are_those_of_the_package(scripts):
    """The text that a script writes is the text that the same lines give where they say netspec."""
    folder = scripts("net.py", NET) / "scripts"
    assert python(folder, "net.py").returncode == 0
    found = {name: (folder / name).read_text() for name in ("train.prototxt", "val.prototxt")}
    (folder / "own.py").write_text(NET.replace("caffe.coord_map", "netspec.coord_map").replace("from caffe ", "from netspec ")
                                   .replace("import caffe\n", "import netspec as caffe\n"))
    programs.run("own.py", cwd=folder).check_returncode()
    assert found == {name: (folder / name).read_text() for name in found}
    assert "offset: 10" in found["train.prototxt"]  # padded by 10, less 1 for a kernel of 3, more 1 for the deconvolution


def test_every_import_of_caffe_is_this_package(scripts):
    folder = scripts(text="""
import sys, os
import caffe, caffe.draw, caffe.io, caffe.proto.caffe_pb2, caffe._caffe, caffe.pycaffe, caffe.classifier, caffe.detector
import caffe.net_spec, caffe.coord_map, netspec, netspec.proto.spec
from caffe import layers as L, params as P
from caffe.net_spec import to_proto
from caffe.proto import caffe_pb2
from google.protobuf import text_format
import beside
net = caffe_pb2.NetParameter()
text_format.Merge('layer { name: "a" type: "ReLU" }', net)
assert net.layer[0].type == 'ReLU' and caffe is netspec and sys.modules['caffe.net_spec'] is netspec.proto.spec
assert caffe_pb2 is caffe.proto.caffe_pb2 and caffe.TEST == caffe_pb2.TEST and caffe.__spec__.name == 'netspec'
try:
    import caffe.nothing
except ImportError as e:
    assert e.name == 'caffe.nothing', e.name
else:
    raise SystemExit('there is no caffe.nothing')
assert __name__ == '__main__' and __file__ == sys.argv[0], __file__
assert os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__))
print(sys.argv[1:])
raise SystemExit(7)
""")
    scripts("beside.py", "import caffe\n")
    done = python(folder, "scripts/job.py", "--replace", "-x", "1")
    assert (done.returncode, done.stdout) == (7, "['--replace', '-x', '1']\n"), done.stderr


def test_a_module_of_a_forks_own_is_found_in_its_sources(scripts):
    """As SSD's caffe/model_libs.py; what this package has stays this package's."""
    folder = scripts("tree/caffe/libs_of_fork.py", "from caffe import layers as L\ndef made(x): return L.ReLU(x)\n__all__ = ['made']\n")
    scripts("tree/caffe/parts/__init__.py")
    scripts("tree/caffe/parts/inner.py", "from caffe.libs_of_fork import made\n")
    scripts("tree/caffe/io.py", "raise SystemExit(3)\n")
    scripts("tree/caffe/broken.py", "import nothing_of_that_name\n")
    scripts(text="""
import sys
sys.path.insert(0, sys.path[0] + '/tree')
import caffe
from caffe.libs_of_fork import *
n = caffe.NetSpec()
n.data = caffe.layers.Input()
n.y = made(n.data)
print(n.to_proto().layer[1].type, caffe.io.__name__, caffe.libs_of_fork.made is made)
import caffe.parts.inner
assert caffe.parts.inner.made is made
for name in ('broken', 'nothing'):
    try:
        __import__('caffe.' + name)
    except ModuleNotFoundError as e:
        print(e.name, 'caffe.' + name in sys.modules)
""")
    done = python(folder, "scripts/job.py")
    assert done.stdout == "ReLU netspec.io True\nnothing_of_that_name False\ncaffe.nothing False\n", done.stderr


@pytest.mark.parametrize("line", ["print 'hello'", "print hello, 1", "exec code in {}", "raise Exc, 'text'", "if 1 <> 2: pass",
                                  "x = `5`", "x = 0777", "x = 5L", "x = ur'a'", "f = lambda (a, b): a"])
def test_python_2_gets_a_pointer(scripts, line):
    folder = scripts(text=f"import caffe\n\n{line}\n")
    done = python(folder, "scripts/job.py")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"job.py:3: this is Python 2 ({line})" in done.stderr and "2to3" in done.stderr


def test_python_2_in_a_module_beside_the_script_is_named_there(scripts):
    scripts("surgery.py", "def f():\n    try:\n        pass\n    except OSError, e:\n        print e\n")
    done = python(scripts(text="import caffe\nimport surgery\n"), "scripts/job.py")
    assert done.returncode == 2 and "surgery.py:4: this is Python 2 (except OSError, e:)" in done.stderr


def test_tabs_beside_spaces_are_told_with_their_cure(scripts):
    done = python(scripts(text="import caffe\nif caffe:\n        a = 1\n\tb = 2\n"), "scripts/job.py")
    assert done.returncode == 2 and "job.py:4: this is Python 2 (b = 2); its tabs become spaces by 'expand FILE > COPY'" in done.stderr


def test_pil_brings_its_image_along(scripts):
    """As where Caffe's own io has imported it."""
    done = python(scripts(text="import caffe\nimport PIL\nprint(PIL.Image.__name__)\n"), "scripts/job.py")
    assert done.stdout == "PIL.Image\n", done.stderr


@pytest.mark.parametrize("text, hint", [
    ("for i in xrange(3): pass", True), ("import cPickle", True), ("{}.iteritems()", True), ("nothing", False),
    ("import sys\nprint >> sys.stderr, 'x'", True), ("def f(: pass", False), ("x = (1,\n", False)])
def test_other_failures_are_pythons_own(scripts, text, hint):
    done = python(scripts(text=f"import caffe\n{text}\n"), "scripts/job.py")
    assert done.returncode == 1 and "Traceback" in done.stderr and ("this is Python 2" in done.stderr) == hint, done.stderr


def test_an_installed_caffe_stays_unless_asked(scripts, tmp_path):
    folder = scripts(text="import caffe\nprint(caffe.__name__)\n")
    (tmp_path / "scripts" / "caffe").mkdir()
    assert python(folder, "scripts/job.py").stdout == "netspec\n"  # a folder that is no package
    (tmp_path / "scripts" / "caffe" / "__init__.py").write_text("")
    assert python(folder, "scripts/job.py").stdout == "netspec\n"  # Caffe's sources, never built
    (tmp_path / "scripts" / "caffe" / "_caffe.py").write_text("")
    done = python(folder, "scripts/job.py")
    assert done.returncode == 2 and "a caffe is installed here" in done.stderr and "--replace" in done.stderr and not done.stdout
    assert python(folder, "--replace", "scripts/job.py").stdout == "netspec\n"


def test_a_script_that_is_not_there(tmp_path):
    done = python(tmp_path, "none.py")
    assert done.returncode == 2 and "script 'none.py' is not there" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("content, words", [
    (None, "is a folder without __main__.py; name the script in it"),
    (b"\x89PNG\0\0", "is no text; a Python script is expected"),
])
def test_what_is_no_script_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "given"
    path.mkdir() if content is None else path.write_bytes(content)
    done = python(tmp_path, path)
    assert (done.returncode, done.stderr) == (2, f"python -m netspec.run: {path} {words}\n")


def test_in_a_notebook(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    run.stand_in()
    run.stand_in()  # again is nothing
    import caffe

    import netspec
    assert caffe is netspec


def test_the_page_works(tmp_path):
    """The blocks of docs/pycaffe.md up to its tables are one script (tests/test_blocks.py runs them all)."""
    page = (PROJECT / "docs" / "pycaffe.md").read_text().partition("\n## Nets")[0].partition("## In ten minutes")[2]
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = python(tmp_path, "page.py")
    assert len(blocks) == 3 and done.returncode == 0, done.stderr
    probabilities, best, trained, end = done.stdout.splitlines()
    assert probabilities.count(".") == 4 and best in ("[0]", "[1]", "[2]", "[3]") and float(trained.split()[0]) > 0
    assert end.startswith("60 ") and float(end.split()[1]) >= 0.6  # of five images in four classes
    assert {"train.svg", "run"} <= {path.name for path in tmp_path.iterdir()}
    again = programs.run("-m", "netspec", "solve", "solver.prototxt", cwd=tmp_path)  # its layers say `import caffe` too
    assert again.returncode == 0 and "Iteration 60" in again.stderr, again.stderr
