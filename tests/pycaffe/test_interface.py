"""pycaffe's names, all of them; batches, MemoryData, callbacks, log, timer, Classifier and Detector."""

import os
import signal
import time

import numpy as np
import programs
import pytest
from PIL import Image
from training import write_job

import netspec as caffe
from netspec.base import machine
from netspec.net.layerwise import Layerwise
from netspec.pycaffe import session

HERE = __name__
IN = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }\n'
SCORE = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
MEMORY = ('layer { name: "mem" type: "MemoryData" top: "data" top: "label" '
          'memory_data_param { batch_size: 2 channels: 3 height: 4 width: 4 } }\n')

NAMES = {
    caffe: "AdaDeltaSolver AdaGradSolver AdamSolver Classifier Detector Layer NCCL NesterovSolver Net NetSpec RMSPropSolver "
           "SGDSolver TEST TRAIN Timer __version__ get_solver has_nccl init_log io layer_type_list layers log params set_device "
           "set_logging_disabled set_mode_cpu set_mode_gpu set_multiprocess set_random_seed set_solver_count set_solver_rank "
           "solver_count solver_rank to_proto",
    "io": "Transformer array_to_blobproto array_to_datum arraylist_to_blobprotovector_str blobproto_to_array "
          "blobprotovector_str_to_arraylist caffe_pb2 datum_to_array load_image oversample resize_image",
    "Net": "_backward _forward after_backward after_forward backward before_backward before_forward blob_loss_weights blobs "
           "bottom_names clear_param_diffs copy_from forward forward_all forward_backward_all inputs layer_dict layers load_hdf5 "
           "outputs params reshape save save_hdf5 set_input_arrays share_with top_names",
    "SGDSolver": "add_callback apply_update iter lr param restore share_weights snapshot solve step",
    "Layer": "backward forward reshape setup type",
    "Timer": "ms start stop",
    "Classifier": "predict",
    "Detector": "configure_crop crop detect_selective_search detect_windows",
    "coord_map": "compose coord_map_from_to crop inverse",
    "draw": "draw_net draw_net_to_file get_pydot_graph",
    "pycaffe": "Net SGDSolver get_solver",
    "_caffe": "AdaDeltaSolver AdaGradSolver AdamSolver Blob BlobVec BoolVec DtypeVec IntVec Layer LayerVec NCCL NesterovSolver Net "
              "NetVec RMSPropSolver RawBlobVec SGDSolver Solver StringVec Timer get_solver has_nccl init_log layer_type_list log "
              "set_device set_logging_disabled set_mode_cpu set_mode_gpu set_multiprocess set_random_seed set_solver_count "
              "set_solver_rank solver_count solver_rank",
    "net_spec": "NetSpec layers params to_proto",
}


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    yield
    session._Mode.minimum = None


@pytest.fixture
def net_of(tmp_path):
    def make(text, kind=caffe.Net, *args, **options):
        (tmp_path / "net.prototxt").write_text(text)
        return kind(str(tmp_path / "net.prototxt"), *(args or [caffe.TRAIN]), **options)
    return make


@pytest.mark.parametrize("owner", NAMES, ids=str)
def test_every_name_is_there(owner):
    of = getattr(caffe, owner) if isinstance(owner, str) else owner
    assert [name for name in NAMES[owner].split() if not hasattr(of, name)] == []
    assert owner is not caffe or set(NAMES[caffe].split()) <= set(dir(caffe))


def test_inner_names(net_of):
    net = net_of(IN + SCORE + PROB)
    assert type(net.params["conv"]) is type(net.layers[1].blobs) is caffe._caffe.BlobVec
    assert isinstance(net._layer_names, caffe._caffe.StringVec) and isinstance(net._inputs, caffe._caffe.IntVec)
    assert net._blob_names == ["data", "conv", "fc", "prob"] and net._blobs[1] is net.blobs["conv"]
    assert (net._inputs, net._outputs) == ([0], [3])
    assert (net._bottom_ids(0), net._bottom_ids(2), net._top_ids(2)) == ([], [1], [2])
    assert net._blob_loss_weights == [0, 0, 0, 0]
    net.blobs["data"].data[...] = 1
    net._forward(0, 3)
    np.testing.assert_allclose(net.blobs["prob"].data.sum(1), 1, rtol=1e-6)


# -- batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 7, 9, 1])
def test_any_number_of_images_is_cut_into_batches(net_of, count):
    net = net_of("force_backward: true\n" + IN + SCORE)
    images = np.random.default_rng(0).standard_normal((count, 3, 6, 6)).astype(np.float32)
    top = np.random.default_rng(1).standard_normal((count, 5)).astype(np.float32)
    out = net.forward_all(["conv"], data=images)
    both, diffs = net.forward_backward_all(diffs=["conv"], data=images, fc=top)
    assert set(out) == {"fc", "conv"} and set(both) == {"fc"} and set(diffs) == {"data", "conv"}
    net.blobs["data"].reshape(count, 3, 6, 6)
    whole = net.forward(data=images)["fc"]
    net.backward(fc=top)
    np.testing.assert_allclose(out["fc"], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both["fc"], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out["conv"], net.blobs["conv"].data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(diffs["data"], net.blobs["data"].diff, rtol=1e-4, atol=1e-5)
    for wrong in ({}, dict(data=images, fc=top[1:])):
        with pytest.raises(caffe.Error, match="arrays of one length"):
            net.forward_backward_all(**wrong)


def test_memory_data_takes_batch_after_batch_and_begins_again(net_of):
    net = net_of(MEMORY + SCORE)
    images, labels = np.arange(6 * 48, dtype=np.float32).reshape(6, 3, 4, 4), np.arange(6, dtype=np.float32)
    net.set_input_arrays(images, labels)
    for k in (0, 2, 4, 0):
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, images[k : k + 2])
        assert net.blobs["label"].data.tolist() == [k, k + 1]
    net.blobs["data"].data[...] = -1
    assert images.min() == 0  # the caller's array stays
    net.set_input_arrays(images[:2] + 1, labels[:2].reshape(2, 1, 1, 1))
    net.forward()
    assert net.blobs["data"].data.flat[0] == 1
    for data, label in ((images[:3], labels[:3]), (images, labels[:5]), (images[:, :2], labels)):
        with pytest.raises(caffe.Error, match=r"layer 'mem' \(MemoryData\): expected"):
            net.set_input_arrays(data, label)
    with pytest.raises(caffe.Error, match="needs a MemoryData layer first"):
        net_of(IN).set_input_arrays(images, labels)


def test_a_solver_trains_on_memory_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
    write_job(tmp_path, data=MEMORY, body=SCORE + loss)
    solver, seen = caffe.get_solver("solver.prototxt"), []
    solver.net.set_input_arrays(np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32), np.arange(6.0) % 5)
    for _ in range(4):
        solver.step(1)
        seen.append(solver.net.blobs["label"].data.tolist())
    assert seen == [[0, 1], [2, 3], [4, 0], [0, 1]]


# -- callbacks -------------------------------------------------------------------------------------------------


def test_callbacks_of_a_net_hear_of_every_layer(net_of):
    net, heard = net_of(IN + SCORE + PROB), []
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, name)(lambda layer, name=name: heard.append((name, layer)))
    net.forward()
    assert heard == [(name, k) for k in range(4) for name in ("before_forward", "after_forward")]
    heard.clear()
    net.forward(start="conv", end="fc")
    assert [k for name, k in heard if name == "after_forward"] == [1, 2]
    heard.clear()
    net.backward()
    assert heard == [(name, k) for k in (3, 2, 1, 0) for name in ("before_backward", "after_backward")]


def test_callbacks_of_a_solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    solver, heard, layers = caffe.get_solver("solver.prototxt"), [], []

    def freeze():
        heard.append(("ready", solver.iter, float(np.abs(solver.net.params["score"][0].diff).max()) > 0))
        solver.net.params["conv"][0].diff[...] = 0

    solver.add_callback(lambda: heard.append(("start", solver.iter)), freeze)
    solver.param.weight_decay = 0
    before = solver.net.params["conv"][0].data.copy()
    solver.step(2)
    assert heard == [("start", 0), ("ready", 0, True), ("start", 1), ("ready", 1, True)]
    np.testing.assert_array_equal(solver.net.params["conv"][0].data, before)
    solver.net.after_forward(layers.append)
    solver.step(2)
    assert layers == 2 * list(range(len(solver.net.layers)))


def test_a_net_takes_a_solvers_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    solver, net = caffe.get_solver("solver.prototxt"), caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(net)
    solver.net.params["conv"][1].data[...] = 4
    assert (net.params["conv"][1].data == 4).all()


# -- layers in Python within a fast net --------------------------------------------------------------------------


class Scaled(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = np.sin(self.factor * bottom[0].data)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * np.cos(self.factor * bottom[0].data) * top[0].diff


class Distance(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = ((bottom[0].data - bottom[1].data) ** 2).sum() / 2

    def backward(self, top, propagate_down, bottom):
        self.asked = list(propagate_down)
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * (bottom[0].data - bottom[1].data) * top[0].diff[0]


def python(name, kind, bottoms, top, more="", param=""):
    return (f'layer {{ name: "{name}" type: "Python" {" ".join(f"bottom: {b!r}" for b in bottoms.split())} top: "{top}" '
            f'python_param {{ module: "{HERE}" layer: "{kind}" param_str: "{param}" share_in_parallel: true }} {more} }}\n')


def test_a_step_takes_the_gradient_of_finite_differences(tmp_path, monkeypatch):
    """Two instances of one class, a loss in Python and propagate_down; only the last of several steps is layer by layer."""
    monkeypatch.chdir(tmp_path)
    conv = ('layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" convolution_param {{ num_output: 2 kernel_size: 1 '
            'weight_filler {{ type: "gaussian" std: 0.5 }} }} }}\n')
    body = (conv.format("one", "data") + python("a", "Scaled", "one", "a", param="0.5") + conv.format("two", "a")
            + python("b", "Scaled", "two", "b", param="1.5") + conv.format("aim", "data")
            + python("loss", "Distance", "b aim", "loss", "loss_weight: 1 propagate_down: true propagate_down: false"))
    data = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }'
    write_job(tmp_path, data=data, body=body, solver='net: "net.prototxt" base_lr: 1e-3 lr_policy: "fixed" momentum: 0 '
              'random_seed: 5 snapshot_prefix: "s"')
    calls = []
    monkeypatch.setattr(Layerwise, "forward", lambda self, *a, real=Layerwise.forward: (calls.append(a), real(self, *a))[1])
    solver = caffe.get_solver("solver.prototxt")
    net = solver.net
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    solver.step(5)
    assert len(calls) == 1  # of 5 iterations
    weights = {layer: net.params[layer][0].data for layer in ("one", "two", "aim")}
    biases = {layer: net.params[layer][1].data for layer in weights}
    before = {layer: (weights[layer].copy(), biases[layer].copy()) for layer in weights}
    solver.step(1)
    updates = {layer: net.params[layer][0].diff.copy() for layer in weights}
    for layer, (weight, bias) in before.items():
        weights[layer][...], biases[layer][...] = weight, bias
    for layer in ("one", "two"):
        found = np.zeros_like(weights[layer])
        for at in np.ndindex(found.shape):
            for step in (1e-2, -1e-2):
                weights[layer][at] = before[layer][0][at] + step
                found[at] += float(net.forward()["loss"][0]) / (2 * step)
            weights[layer][at] = before[layer][0][at]
        np.testing.assert_allclose(updates[layer] / 1e-3, found, rtol=1e-2, atol=1e-2)
    assert net.layer_dict["loss"].asked == [True, False] and not updates["aim"].any()


# -- the whole process -----------------------------------------------------------------------------------------


def test_the_log_can_be_asked_to_be_silent(capfd, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    caffe.log("one")
    caffe.init_log(1)
    caffe.log("two")
    caffe.init_log()
    caffe.log("three")
    caffe.set_logging_disabled()
    caffe.log("four")
    caffe.set_logging_disabled(False)
    caffe.log("five")
    said = [line.rpartition("] ")[2] for line in capfd.readouterr().err.splitlines()]
    assert said == ["one", "three", "five"]


def test_timer():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    time.sleep(0.02)
    timer.start()  # is running
    timer.stop()
    first = timer.ms
    assert 20 <= first < 2000
    time.sleep(0.01)
    assert timer.ms == first


def test_a_process_forked_after_a_pass_can_run_nets(tmp_path):
    script = tmp_path / "fork.py"
    script.write_text(f"""
import os, sys, netspec
net = netspec.Net({str(tmp_path / 'n.prototxt')!r}, netspec.TEST)
net.blobs["data"].reshape(64, 3, 64, 64)
net.forward()
child = os.fork()
if not child:
    net.forward()
    os._exit(5)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    (tmp_path / "n.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }\n'
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 8 kernel_size: 3 } }')
    child = programs.Program(script, cwd=tmp_path, start_new_session=True, env=programs.environment(OMP_NUM_THREADS="2"))
    try:
        assert child.wait(30) == 5
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)


def test_one_solver_a_process():
    assert (caffe.has_nccl(), caffe.solver_count(), caffe.solver_rank()) == (False, 1, 0)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(False)
    for call in (lambda: caffe.NCCL(None, "uid"), caffe.NCCL.new_uid, lambda: caffe.set_solver_count(2),
                 lambda: caffe.set_solver_rank(1), lambda: caffe.set_multiprocess(True)):
        with pytest.raises(caffe.Error, match="NCCL is not used through pycaffe"):
            call()


# -- Classifier and Detector -----------------------------------------------------------------------------------


@pytest.fixture
def files(net_of, tmp_path):
    net_of(IN + SCORE + PROB).save(tmp_path / "net.caffemodel")
    return str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")


SETTINGS = dict(mean=np.array([104.0, 117.0, 123.0]), raw_scale=255, channel_swap=(2, 1, 0), input_scale=0.1)


def test_classifier(files):
    rng = np.random.default_rng(0)
    images = [rng.random((9, 12, 3)).astype(np.float32), rng.random((7, 8, 3)).astype(np.float32)]
    made = caffe.Classifier(*files, (8, 10), **SETTINGS)
    assert made.image_dims == (8, 10) and made.crop_dims.tolist() == [6, 6]
    one, ten = made.predict(images, oversample=False), made.predict(images)
    assert one.shape == ten.shape == (2, 5)
    net = caffe.Net(files[0], caffe.TEST, weights=files[1])
    for k, im in enumerate(images):
        im = caffe.io.resize_image(im, (8, 10))
        batches = [im[None, 1:7, 2:8], caffe.io.oversample([im], (6, 6))]
        for crops, found in zip(batches, (one[k], ten[k]), strict=True):
            prepared = (crops[..., ::-1] * 255 - SETTINGS["mean"]) * 0.1
            net.blobs["data"].reshape(len(crops), 3, 6, 6)
            np.testing.assert_allclose(net.forward(data=prepared.transpose(0, 3, 1, 2))["prob"].mean(0), found, rtol=1e-4)
    assert caffe.Classifier(*files).image_dims.tolist() == [6, 6]


def test_detector(files, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    windows = np.array([[0, 0, 9, 9], [3, 4, 15, 29]])
    made = caffe.Detector(*files, **SETTINGS)
    found = made.detect_windows(iter([(tmp_path / "a.png", windows)]))
    assert [d["window"].tolist() for d in found] == windows.tolist() and {d["filename"] for d in found} == {tmp_path / "a.png"}
    net = caffe.Net(files[0], caffe.TEST, weights=files[1])
    for one, (y, x, bottom, right) in zip(found, windows, strict=True):
        net.blobs["data"].data[...] = made.transformer.preprocess("data", pixels[y:bottom, x:right] / np.float32(255))
        np.testing.assert_allclose(one["prediction"], net.forward()["prob"][0], rtol=1e-5)
    with pytest.raises(caffe.Error, match="MATLAB"):
        made.detect_selective_search([tmp_path / "a.png"])


def test_detectors_context_is_the_mean_where_there_is_no_image(files):
    made = caffe.Detector(*files, context_pad=1, **SETTINGS)
    np.testing.assert_allclose(made.crop_mean[0, 0], SETTINGS["mean"][::-1] / 255)
    whole = np.random.default_rng(0).random((3, 6, 6)).astype(np.float32)  # BGR
    image = caffe.Detector(*files, context_pad=1, **SETTINGS | {"mean": whole}).crop_mean
    np.testing.assert_allclose(image, whole[::-1].transpose(1, 2, 0) / 255, rtol=1e-6)
    im = np.full((20, 30, 3), 0.25, np.float32)
    # a window of 7x7 seen by 4 of 6 pixels: 10.5 rounded to 10 or 11 pixels, of which the first lie above and left of the image
    crop = made.crop(im, [0, 0, 6, 6])
    assert crop.shape == (6, 6, 3) and (crop[2:, 2:] == 0.25).all()
    np.testing.assert_allclose(crop[0], np.broadcast_to(SETTINGS["mean"][::-1] / 255, (6, 3)), rtol=1e-6)
    assert (made.crop(im, [7, 12, 13, 18]) == 0.25).all()  # surrounded by image
    made.configure_crop(None)
    assert made.crop(im, [0, 0, 6, 6]).shape == (6, 6, 3)


def test_drawing(tmp_path):
    net = caffe.proto.caffe_pb2.NetParameter(name="little")
    net.layer.add(name="d", type="Data", top=["data", "label"]).include.add(phase=caffe.TRAIN)
    net.layer.add(name="e", type="ImageData", top=["data", "label"]).include.add(phase=caffe.TEST)
    net.layer.add(name="conv<1>", type="Convolution", bottom=["data", "nowhere"], top=["c"])
    net.layer.add(name="r", type="ReLU", bottom=["c"], top=["c"])
    net.layer.add(name="s", type="SomebodysOwn", bottom=["c", "label"], top=["s"])
    before = net.SerializeToString()
    assert caffe.draw.draw_net(net, "LR").startswith(b"\x89PNG") and net.SerializeToString() == before
    for phase, names in ((None, "de"), (caffe.TRAIN, "d"), (caffe.TEST, "e")):
        caffe.draw.draw_net_to_file(net, str(tmp_path / "net.svg"), "TB", phase)
        text = (tmp_path / "net.svg").read_text()
        assert [name in text for name in (">d<", ">e<")] == ["d" in names, "e" in names] and "conv&lt;1&gt;" in text
    with pytest.raises(caffe.Error, match="kinds of picture"):
        caffe.draw.draw_net_to_file(net, "net.jpg")


def test_a_drawing_has_what_is_called_of_pydots_graphs(tmp_path):
    net = caffe.proto.caffe_pb2.NetParameter(name="little")
    net.layer.add(name="d", type="Data", top=["data"]).include.add(phase=caffe.TRAIN)
    net.layer.add(name="r", type="ReLU", bottom=["data"], top=["r"])
    graph = caffe.draw.get_pydot_graph(net, "TB", phase=caffe.TEST)
    assert graph.create_png() == graph.create(format="png") == caffe.draw.draw_net(net, "TB", phase=caffe.TEST)
    assert graph.write_png(str(tmp_path / "a")) and graph.write(tmp_path / "b.svg") and graph.write(tmp_path / "c", format="pdf")
    assert [(tmp_path / name).read_bytes()[:4] for name in ("a", "b.svg", "c")] == [b"\x89PNG", b"<svg", b"%PDF"]
    assert ">d<" not in (tmp_path / "b.svg").read_text() and ">d<" in caffe.draw.get_pydot_graph(net).create_svg().decode()
    with pytest.raises(AttributeError, match="get_nodes"):
        graph.get_nodes()


@pytest.mark.gpu
def test_on_a_gpu(files, net_of):
    caffe.set_mode_gpu()
    try:
        images = [np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)]
        there = caffe.Classifier(*files, **SETTINGS).predict(images)
        timer = caffe.Timer()
        timer.start()
        assert timer.ms >= 0
        net, seen = net_of(MEMORY + SCORE), np.arange(96, dtype=np.float32).reshape(2, 3, 4, 4)
        net.set_input_arrays(seen, np.zeros(2))
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, seen)
    finally:
        caffe.set_mode_cpu()
    np.testing.assert_allclose(caffe.Classifier(*files, **SETTINGS).predict(images), there, rtol=1e-3)


def test_blobs_that_no_memory_holds_are_refused_until_they_are_reshaped(net_of, monkeypatch):
    net = net_of(IN.replace("dim: 6 dim: 6", "dim: 4000 dim: 4000") + SCORE.replace("fc", "pool").replace(
        'type: "InnerProduct"', 'type: "Pooling"').partition("inner_product")[0] + "pooling_param { global_pooling: true } }")
    monkeypatch.setattr(machine, "room", lambda device: 1e8)
    for asks in (net.forward, lambda: net.blobs["data"].data, net.reshape):
        with pytest.raises(caffe.Error, match=r"take.* [\d.]+ MB and cpu has 100.0 MB|take.* GB and cpu has 100.0 MB"):
            asks()
    net.blobs["data"].reshape(1, 3, 6, 6)
    assert net.forward()["pool"].shape == (1, 4, 1, 1)
    with pytest.raises(caffe.Error, match="cannot have the shape"):
        net.blobs["data"].reshape(*[1] * 33)
