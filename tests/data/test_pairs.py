"""DeepLab's and HED's lists of images and label maps, against plain NumPy; sources whose shapes alone are known."""

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.data.opencv import resize
from netspec.net.build import build
from netspec.net.deploy import deploy
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

HIGH, WIDE = 9, 14
MEAN = np.array([104.25, 116.5, 122.75], np.float32).reshape(3, 1, 1)
MEANS = " ".join(f"mean_value: {m}" for m in MEAN.ravel())


@pytest.fixture
def folder(tmp_path):
    """Two images, their labels as indices and as grey, and lists of them."""
    random = np.random.RandomState(0)
    for name in "ab":
        Image.fromarray(random.randint(0, 256, (HIGH, WIDE, 3), np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(random.randint(0, 21, (HIGH, WIDE), np.uint8)).save(tmp_path / f"{name}_label.png")
        Image.fromarray(random.choice(np.array([0, 127, 128, 255], np.uint8), (HIGH, WIDE))).save(tmp_path / f"{name}_grey.png")
    for kind in ("label", "grey"):
        (tmp_path / f"{kind}.txt").write_text("".join(f"/{name}.png /{name}_{kind}.png\n" for name in "ab"))
    (tmp_path / "alone.txt").write_text("/a.png\n/b.png\n")
    (tmp_path / "numbers.txt").write_text("/a.png 3\n/b.png 17\n")
    return tmp_path


def source(folder, kind="ImageSegData", of="label", settings="label_type: PIXEL", transform="", tops="dls", phase=caffe_pb2.TEST):
    text = (f'layer {{ name: "l" type: "{kind}" {" ".join(f"top: {t!r}" for t in tops)} transform_param {{ {transform} }} '
            f'image_data_param {{ source: "{folder}/{of}.txt" root_folder: "{folder}" batch_size: 2 {settings} }} }}')
    return build(prototext.parse(text, caffe_pb2.NetParameter), phase)


def read(folder, name):
    pixels = np.asarray(Image.open(folder / f"{name}.png"))
    return pixels[:, :, ::-1].transpose(2, 0, 1).copy() if pixels.ndim == 3 else pixels[None]


def loaded(made, position=0):
    op, = (node.op for node in made.sources)
    batch = op.load(position)
    assert [x.shape for x in batch] == [made.shape(top) for top in op.layer.top] and all(x.dtype == np.float32 for x in batch)
    return batch


def test_images_and_labels_of_a_list(folder):
    data, label, size = loaded(source(folder, transform=f"{MEANS} scale: 0.5"))
    for n, name in enumerate("ab"):
        assert np.array_equal(data[n], (read(folder, name) - MEAN) * np.float32(0.5))
        assert np.array_equal(label[n], read(folder, f"{name}_label"))
    assert size.tolist() == [[[[HIGH, WIDE]]]] * 2
    assert len(loaded(source(folder, tops="dl"))) == 2


@pytest.mark.parametrize("of,settings,labels", [("alone", "label_type: NONE", (255, 255)), ("numbers", "", (3, 17))])
def test_labels_that_are_no_files(folder, of, settings, labels):
    for item, expected in zip(loaded(source(folder, of=of, settings=settings))[1], labels, strict=True):
        assert (item == expected).all() and item.shape == (1, HIGH, WIDE)


def test_a_crop_larger_than_the_image_is_padded_below_and_at_its_right(folder):
    data, label, size = loaded(source(folder, transform=f"crop_size: 12 {MEANS}"))
    image, labels = read(folder, "a"), read(folder, "a_label")
    assert np.array_equal(data[0, :, :HIGH], (image - MEAN)[:, :, 1:13]) and not data[0, :, HIGH:].any()
    assert np.array_equal(label[0, :, :HIGH], labels[:, :, 1:13]) and (label[0, :, HIGH:] == 255).all()
    assert size.tolist() == [[[[HIGH, 12]]]] * 2


def test_crops_and_mirrors_go_for_both(folder):
    made = source(folder, transform="crop_size: 6 mirror: true", phase=caffe_pb2.TRAIN, tops="dl")
    image, labels = read(folder, "a"), read(folder, "a_label")
    places = set()
    for position in range(60):
        data, label = (x[0] for x in loaded(made, position))
        found = [(top, left, step) for top in range(HIGH - 5) for left in range(WIDE - 5) for step in (1, -1)
                 if np.array_equal(data, image[:, top : top + 6, left : left + 6][:, :, ::step])]
        (top, left, step), = found
        assert np.array_equal(label, labels[:, top : top + 6, left : left + 6][:, :, ::step])
        places.add(found[0])
    assert {p[0] for p in places} == set(range(HIGH - 5)) and {p[1] for p in places} == set(range(WIDE - 5))
    assert {p[2] for p in places} == {1, -1}


def test_labels_are_resized_as_images_are(folder):
    data, label, size = loaded(source(folder, settings="label_type: PIXEL new_height: 5 new_width: 8"))
    assert np.array_equal(data[1], resize(read(folder, "b"), 5, 8)) and np.array_equal(label[1], resize(read(folder, "b_label"), 5, 8))
    assert size.tolist() == [[[[5, 8]]]] * 2


def test_hed_takes_grey_from_128_for_an_edge(folder):
    data, label = loaded(source(folder, "ImageLabelmapData", "grey", "", MEANS, "dl"))
    for n, name in enumerate("ab"):
        assert np.array_equal(data[n], read(folder, name) - MEAN)
        assert np.array_equal(label[n], read(folder, f"{name}_grey") >= 128)


def test_hed_crops_at_random_in_test_too(folder):
    made = source(folder, "ImageLabelmapData", "grey", "", "crop_size: 9", "dl")
    assert len({loaded(made, position)[0].tobytes() for position in range(20)}) > 3


@pytest.mark.parametrize("options,words", [
    (dict(transform="mean_file: 'm.npy'"), "mean_file"),
    (dict(of="alone", settings="label_type: IMAGE", transform="crop_size: 3 scale_factors: 2"), "scale_factors"),
    (dict(kind="ImageLabelmapData", of="grey", settings="", tops="dls"), "exactly 2 tops"),
    (dict(kind="ImageLabelmapData", of="grey", settings="", transform="crop_size: 20", tops="dl"), "more than an image"),
])
def test_what_is_refused(folder, options, words):
    with pytest.raises(Error, match=words):
        loaded(source(folder, **options))


def test_a_label_of_another_size(folder):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / "a_label.png")
    with pytest.raises(Error, match=r"image /a.png is \[9, 14\] and its label /a_label.png \[3, 4\]"):
        loaded(source(folder))


# Sources whose shapes alone are known

CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }'
STATED = {
    "AnnotatedData transform_param { resize_param { height: 30 width: 40 } } data_param { batch_size: 8 }":
        ((1, 3, 30, 40), (8, 3, 30, 40), (1, 1, 1, 8)),
    "AnnotatedData transform_param { crop_size: 20 resize_param { height: 30 width: 40 } } data_param { batch_size: 8 }":
        ((1, 3, 20, 20), (8, 3, 20, 20), (1, 1, 1, 8)),
    "AnnotatedData annotated_data_param { yolo_data_type: 1 } transform_param { resize_param { height: 30 width: 40 } "
    "resize_param { height: 50 width: 60 } } data_param { batch_size: 8 }": ((1, 3, 30, 40), (8, 3, 30, 40), (8, 1, 300, 5)),
    "Data transform_param { resize_param { height: 30 width: 40 } } data_param { batch_size: 8 }":
        ((1, 3, 30, 40), (8, 3, 30, 40), (8,)),
    "VideoData transform_param { crop_size: 20 } video_data_param { batch_size: 4 new_length: 5 num_segments: 3 modality: FLOW }":
        ((1, 30, 20, 20), (4, 30, 20, 20), (4, 1, 1, 1)),
    "VideoData transform_param { crop_size: 20 } video_data_param { batch_size: 4 num_segments: 7 new_length: 1 modality: RGB }":
        ((1, 21, 20, 20), (4, 21, 20, 20), (4, 1, 1, 1)),
    "VideoData transform_param { resize_param { height: 30 width: 40 } } video_data_param { video_type: WEBCAM }":
        ((1, 3, 30, 40), (1, 3, 30, 40), (1,)),
    "ImageSegData transform_param { crop_size: 20 } image_data_param { batch_size: 4 }":
        ((1, 3, 20, 20), (4, 3, 20, 20), (4, 1, 20, 20)),
    "ImageLabelmapData image_data_param { batch_size: 4 new_height: 8 new_width: 9 }":
        ((1, 3, 8, 9), (4, 3, 8, 9), (4, 1, 8, 9)),
}


def net(text):
    kind, _, settings = text.partition(" ")
    return prototext.parse(f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" {settings} }} {CONV}', caffe_pb2.NetParameter)


@pytest.mark.parametrize("text", STATED)
def test_shapes_of_data_that_are_not_there(text):
    one, data, label = STATED[text]
    assert deploy(net(text)).shape("data") == one
    whole = deploy(net(text), losses=True)
    assert (whole.shape("data"), whole.shape("label")) == (data, label)


@pytest.mark.parametrize("text", ["annotated_data_param { } ", "video_data_param { new_length: 16 } ", ""])
def test_such_data_are_not_read(text):
    kind = "VideoData" if "video" in text else "AnnotatedData"
    with pytest.raises(Error, match=r"would change numbers|its data are not read here"):
        build(net(f"{kind} {text} transform_param {{ crop_size: 20 }}"))


def test_videos_have_a_fifth_axis():
    layer, = prototext.parse('layer { name: "d" type: "VideoData" top: "data" top: "label" transform_param { crop_size: 112 } '
                             "video_data_param { batch_size: 3 new_length: 16 } }", caffe_pb2.NetParameter).layer
    assert build(caffe_pb2.NetParameter(layer=[layer]), shapes={"data": (1, 3, 16, 8, 8), "label": (1,)}).shape("label") == (1,)
    from netspec.data.described import VideoData
    assert VideoData.stated(layer) == [(3, 0, 16, 112, 112), (3,)]
    old = caffe_pb2.LayerParameter()
    old.image_data_param.batch_size, old.image_data_param.crop_size, old.image_data_param.new_length = 30, 112, 16
    assert VideoData.stated(old) == [(30, 0, 16, 112, 112), (30,)]
