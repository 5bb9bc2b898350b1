"""Caffe's data layers on real LMDBs, image lists and window files that the tests write."""

import copy
import io
import sys

import lmdb
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from scipy import stats

from netspec.base.errors import Error
from netspec.data.arrays import MemoryData
from netspec.data.feed import Feed
from netspec.data.images import decode
from netspec.data.listed import DenseImageData, ImageData
from netspec.data.lmdb import Data
from netspec.data.opencv import nearest, resize
from netspec.data.windows import WindowData
from netspec.net.build import build, load
from netspec.net.module import Net
from netspec.ops.base import Context
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
FIELDS = {"Data": "data_param", "ImageData": "image_data_param", "DenseImageData": "dense_image_data_param",
          "WindowData": "window_data_param", "MemoryData": "memory_data_param"}


def source(cls, folder, settings, extra="", tops=("data", "label"), phase=TEST):
    text = f'name: "d" type: "{cls.type}" {" ".join(f"top: {t!r}" for t in tops)} {FIELDS[cls.type]} {{ {settings} }} {extra}'
    return cls(text_format.Parse(text, caffe_pb2.LayerParameter()), (), Context(base=folder, phase=phase))


def pixels(seed, height=6, width=8):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def bgr(array):
    return array[:, :, ::-1].transpose(2, 0, 1)


def alike_in_any_order(made, positions=range(6)):
    """Every batch follows from its position alone."""
    first = {p: made.load(p) for p in positions}
    for other in (made, copy.deepcopy(made)):
        for p in reversed(positions):
            for a, b in zip(first[p], other.load(p), strict=True):
                assert a.dtype == np.float32 and np.array_equal(a, b)


# Data


def libpng(image):
    """The grey that libpng, which OpenCV asks, makes of colours."""
    return [[(9797 * r + 19234 * g + 3737 * b) // 32768 for r, g, b in row.tolist()] for row in image]


def database(folder, datums, name="db"):
    path = folder / name
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, datum in datums.items():
            transaction.put(key.encode(), datum if isinstance(datum, bytes) else datum.SerializeToString())
    return path


def raw(value, label=0, shape=(3, 4, 5)):
    return caffe_pb2.Datum(channels=shape[0], height=shape[1], width=shape[2], label=label,
                           data=np.full(shape, value, np.uint8).tobytes())


def numbered(folder, count):
    """Keys in another order than they are put in."""
    order = np.random.RandomState(0).permutation(count)
    return database(folder, {f"{i:08d}": raw(i, 100 + i) for i in order})


LMDB = 'source: "db" backend: LMDB batch_size: '


def test_entries_come_in_the_order_of_their_keys_and_start_again(tmp_path):
    numbered(tmp_path, 7)
    made = source(Data, tmp_path, LMDB + "3")
    assert len(made) == 7 and made.shapes() == [(3, 3, 4, 5), (3,)]
    for position in (0, 1, 2, 40, 1, 3):
        data, label = made.load(position)
        expected = np.arange(3 * position, 3 * position + 3) % 7
        assert np.array_equal(label, 100 + expected)
        assert np.array_equal(data, np.broadcast_to(expected[:, None, None, None], (3, 3, 4, 5)))
    assert made.describe(2) == f"entries 6 to 1 of {tmp_path}/db"
    alike_in_any_order(made)
    (alone,) = source(Data, tmp_path, LMDB + "3", tops=["data"]).load(1)
    assert alone[:, 0, 0, 0].tolist() == [3, 4, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked")
def test_a_page_that_leads_out_of_the_database_does_not_end_the_process(tmp_path):
    whole, said = (numbered(tmp_path, 120) / "data.mdb").read_bytes(), []
    for at in range(2 * 4096 + 16, len(whole), 4096):  # where a page has the places of its entries
        (tmp_path / "db/data.mdb").write_bytes(whole[:at] + b"\xf0\xff" * 8 + whole[at + 16:])
        try:
            source(Data, tmp_path, LMDB + "120").load(0)
        except Error as error:
            said.append(str(error))
    assert any("reading it ends the process (SIG" in each for each in said)


def test_datums_of_every_kind(tmp_path):
    image, floats = pixels(1), np.random.RandomState(2).randn(2, 3, 4).astype(np.float32)
    database(tmp_path, {
        "a": caffe_pb2.Datum(encoded=True, data=png(image), label=1),
        "b": caffe_pb2.Datum(encoded=True, data=png(image[:, :, 0]), label=2),
        "c": caffe_pb2.Datum(channels=2, height=3, width=4, float_data=floats.ravel(), label=-3),
        "d": caffe_pb2.Datum(channels=3, height=6, width=8, data=bgr(image).tobytes()),
    })
    made = source(Data, tmp_path, LMDB + "1")
    (a, _), (b, _), (c, label), (d, _) = (made.load(i) for i in range(4))
    assert np.array_equal(a[0], bgr(image)) and np.array_equal(d, a)
    assert np.array_equal(b[0, 0], image[:, :, 0]) and b.shape == (1, 1, 6, 8)
    assert np.array_equal(c[0], floats) and label == [-3]
    colour = source(Data, tmp_path, LMDB + "2", "transform_param { force_color: true scale: 2 }").load(0)[0]
    assert np.array_equal(colour[0], 2.0 * bgr(image)) and np.array_equal(colour[1], 2.0 * np.repeat(b[0], 3, 0))
    grey = source(Data, tmp_path, LMDB + "2", "transform_param { force_gray: true }").load(0)[0]
    assert grey.shape == (2, 1, 6, 8) and grey[0, 0].tolist() == libpng(image)


@pytest.mark.parametrize("sampling", [0, 2])
def test_a_grey_jpeg_is_the_luminance_that_the_file_holds(sampling):
    file = io.BytesIO()
    Image.fromarray(pixels(3, 40, 50)).save(file, "JPEG", subsampling=sampling)
    held = Image.open(file)
    held.draft("YCbCr", None)  # as it is stored
    found = decode(Image.open(file), "image", False)
    assert held.mode == "YCbCr" and np.array_equal(found[0], np.asarray(held)[:, :, 0])
    assert not np.array_equal(found[0], np.asarray(Image.open(file).convert("L")))


def test_rand_skip_is_uniform_and_follows_from_the_seed(tmp_path):
    numbered(tmp_path, 9)
    made, starts = source(Data, tmp_path, LMDB + "2 rand_skip: 5"), []
    for seed in range(100):
        made.seed = seed
        starts.append(int(made.load(0)[0][0, 0, 0, 0]))
    assert set(starts) == set(range(5)) and stats.chisquare(np.bincount(starts)).pvalue > 1e-3
    data = made.load(4)[0][:, 0, 0, 0]
    assert data.tolist() == [(starts[-1] + 8) % 9, (starts[-1] + 9) % 9]


def test_random_crops_of_a_database_differ_from_item_to_item_and_epoch_to_epoch(tmp_path):
    image = np.arange(3 * 20 * 20).reshape(3, 20, 20).astype(np.float32)
    datum = caffe_pb2.Datum(channels=3, height=20, width=20, float_data=image.ravel())
    database(tmp_path, {"a": datum, "b": datum})
    made = source(Data, tmp_path, LMDB + "2", "transform_param { crop_size: 4 mirror: true }", phase=TRAIN)
    assert made.shapes() == [(2, 3, 4, 4), (2,)]
    assert len({made.load(p)[0][i].tobytes() for p in range(10) for i in (0, 1)}) > 15
    alike_in_any_order(made)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_database_in_any_number_of_processes(tmp_path, workers):
    numbered(tmp_path, 7)
    made, other = source(Data, tmp_path, LMDB + "3"), source(Data, tmp_path, LMDB + "2")
    made.load(0)
    feeds = [Feed(made, 4, workers), Feed(other, 0, workers)]
    for position in range(8):
        assert next(feeds[0])[1].tolist() == [100 + i % 7 for i in range(3 * position + 12, 3 * position + 15)]
        assert next(feeds[1])[1].tolist() == [100 + i % 7 for i in range(2 * position, 2 * position + 2)]
        assert other.load(position)[1][0] == 100 + 2 * position % 7
    for feed in feeds:
        feed.close()


def test_database_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(Error, match=r"'d' \(Data\).*database 'db' is not there"):
        source(Data, tmp_path, LMDB + "1")
    numbered(tmp_path, 2)
    with pytest.raises(Error, match="it is an LMDB: say backend: LMDB"):
        source(Data, tmp_path, 'source: "db" batch_size: 1')
    (tmp_path / "level").mkdir()
    with pytest.raises(Error, match="LevelDB .* which is not read; convert it"):
        source(Data, tmp_path, 'source: "level" batch_size: 1')
    with pytest.raises(Error, match="level cannot be read as LMDB"):
        source(Data, tmp_path, 'source: "level" backend: LMDB batch_size: 1')
    (tmp_path / "level" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(Error, match="level cannot be read as LMDB"):
        source(Data, tmp_path, 'source: "level" backend: LMDB batch_size: 1')
    with pytest.raises(Error, match="batch_size"):
        source(Data, tmp_path, 'source: "db" backend: LMDB')
    with pytest.raises(Error, match="rand_skip 3 is more than the 2"):
        source(Data, tmp_path, LMDB + "1 rand_skip: 3")
    database(tmp_path, {}, "empty")
    with pytest.raises(Error, match="is empty"):
        source(Data, tmp_path, 'source: "empty" backend: LMDB batch_size: 1')
    with pytest.raises(Error, match="1 to 2 tops"):
        source(Data, tmp_path, LMDB + "1", tops="abc")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(Error, match="pip install lmdb"):
        source(Data, tmp_path, LMDB + "1")


@pytest.mark.parametrize("left", [0, 100, 4096, 9000, 20000])
def test_a_database_cut_off_is_refused(tmp_path, left):
    path = numbered(tmp_path, 400) / "data.mdb"
    whole = path.read_bytes()
    assert len(whole) > 40000 and len(source(Data, tmp_path, LMDB + "1")) == 400
    path.write_bytes(whole[:left])
    with pytest.raises(Error, match="copy it again|cannot be read as LMDB|is empty"):
        source(Data, tmp_path, LMDB + "1").load(390)


@pytest.mark.parametrize("bad,words", [
    (b"\xff\xff\xff", "entry 1 of .*key b'b', is no Datum"),
    (b"", "said to be 0 x 0 x 0 but has 0 values"),
    (caffe_pb2.Datum(channels=3, height=4, width=6, data=bytes(60)), "3 x 4 x 6 but has 60 values"),
    (caffe_pb2.Datum(channels=-3, height=-4, width=5, data=bytes(60)), "-3 x -4 x 5"),
    (caffe_pb2.Datum(channels=2**31 - 1, height=2**31 - 1, width=2**31 - 1, data=bytes(60)), "but has 60 values"),
    (caffe_pb2.Datum(encoded=True, data=b"no image"), "no image of a kind that Pillow reads"),
    (caffe_pb2.Datum(encoded=True, data=png(pixels(0))[:60]), "cannot be read|no image of a kind"),
    (raw(0, shape=(3, 4, 6)), r"gives \[3, 4, 6\], the first of its batch \[3, 4, 5\]"),
])
def test_a_bad_entry_is_named(tmp_path, bad, words):
    database(tmp_path, {"a": raw(1), "b": bad})
    with pytest.raises(Error, match=words):
        source(Data, tmp_path, LMDB + "2").load(0)


# ImageData


def listed(folder, names, text):
    (folder / "im").mkdir(exist_ok=True)
    for i, name in enumerate(names):
        (folder / "im" / name).write_bytes(png(pixels(i)))
    (folder / "list.txt").write_text(text)


IMAGES = 'source: "list.txt" root_folder: "im/" batch_size: '


def test_images_in_the_order_of_the_list(tmp_path):
    listed(tmp_path, ["a.png", "b c.png", "d.png"], "a.png 3\nb c.png -7\r\nd.png\n\n")
    made = source(ImageData, tmp_path, IMAGES + "2")
    assert len(made) == 3 and made.shapes() == [(2, 3, 6, 8), (2,)]
    data, label = made.load(1)
    assert label.tolist() == [0, 3], "no number is 0"
    assert np.array_equal(data[0], bgr(pixels(2))) and np.array_equal(data[1], bgr(pixels(0)))
    assert made.load(0)[1].tolist() == [3, -7]
    assert made.describe(0) == "im/a.png, im/b c.png" and made.image_names(0) == ["a", "b c"]


def test_all_images_of_a_list_are_looked_for_at_once(tmp_path):
    listed(tmp_path, ["a.png", "b.png"], "a.png 3\nb.png 1\n")
    source(ImageData, tmp_path, IMAGES + "2").check_files()
    (tmp_path / "list.txt").write_text("a.png 3\nno.png 1\nb.png 1\nnone.png 2\n")
    with pytest.raises(Error, match=r"2 images are not there, such as im/no.png; \S*list.txt names them, after root_folder 'im/'"):
        source(ImageData, tmp_path, IMAGES + "2").check_files()


def test_images_are_resized_cropped_and_grey(tmp_path):
    listed(tmp_path, ["a.png", "b.png"], "a.png 0\nb.png 1\n")
    Image.fromarray(pixels(1, 30, 20)).save(tmp_path / "im" / "b.png")
    made = source(ImageData, tmp_path, IMAGES + "2 new_height: 10 new_width: 12",
                  "transform_param { crop_size: 4 mean_value: 5 scale: 0.5 }")
    data, _ = made.load(0)
    for i, image in enumerate((pixels(0), pixels(1, 30, 20))):
        assert np.array_equal(data[i], (resize(bgr(image), 10, 12)[:, 3:7, 4:8].astype(np.float32) - 5) / 2)
    grey, _ = source(ImageData, tmp_path, IMAGES + "1 is_color: false").load(0)
    assert grey[0, 0].tolist() == libpng(pixels(0))
    assert source(ImageData, tmp_path, IMAGES + "1").load(1)[0].shape == (1, 3, 30, 20), "alone each has its own size"
    with pytest.raises(Error, match=r"image b.png gives \[3, 30, 20\], the first of its batch \[3, 6, 8\]"):
        source(ImageData, tmp_path, IMAGES + "2").load(0)


def test_shuffling_gives_each_image_once_an_epoch_in_new_orders(tmp_path):
    names = [f"{i}.png" for i in range(12)]
    listed(tmp_path, names, "".join(f"{name} {i}\n" for i, name in enumerate(names)))
    made = source(ImageData, tmp_path, IMAGES + "4 shuffle: true")
    epochs = [np.concatenate([made.load(3 * e + i)[1] for i in range(3)]) for e in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(12)) != list(order)
    assert not np.array_equal(epochs[0], epochs[1])
    assert made.load(1)[1].tolist() == epochs[0][4:8].tolist()
    alike_in_any_order(made)
    other = source(ImageData, tmp_path, IMAGES + "4 shuffle: true")
    other.seed = 1
    assert not np.array_equal(other.load(0)[1], made.load(0)[1])
    firsts = []
    for seed in range(360):
        other.seed = seed
        firsts.append(other.line(0).label)
    assert stats.chisquare(np.bincount(firsts, minlength=12)).pvalue > 1e-3


def test_skipping_images(tmp_path):
    names = [f"{i}.png" for i in range(5)]
    listed(tmp_path, names, "".join(f"{name} {i}\n" for i, name in enumerate(names)))
    made = source(ImageData, tmp_path, IMAGES + "1 rand_skip: 5")
    starts = set()
    for seed in range(60):
        made.seed = seed
        start, after = made.load(0)[1][0], made.load(3)[1][0]
        assert after == (start + 3) % 5
        starts.add(start)
    assert starts == set(range(5))
    with pytest.raises(Error, match="rand_skip 6"):
        source(ImageData, tmp_path, IMAGES + "1 rand_skip: 6")


@pytest.mark.parametrize("text,settings,words", [
    ("a.png x\n", "1", r"list.txt:1: expected a file name, a space and a whole number, found 'a.png x'"),
    ("\n \n", "1", "lists no image"),
    ("a.png 1\n", "0", "batch_size"),
    ("a.png 1\n", "1 new_height: 3", "come together"),
    ("none.png 1\n", "1", "list.txt: image 'im/none.png' is not there"),
    ("bad.png 1\n", "1", "bad.png is no image"),
])
def test_image_list_mistakes_are_named(tmp_path, text, settings, words):
    listed(tmp_path, ["a.png"], text)
    (tmp_path / "im" / "bad.png").write_bytes(b"<html>")
    with pytest.raises(Error, match=words):
        source(ImageData, tmp_path, IMAGES + settings).load(0)
    with pytest.raises(Error, match=r"layer 'd' \(ImageData\): source 'no.txt' is not there"):
        source(ImageData, tmp_path, 'source: "no.txt" batch_size: 1')


def test_a_net_over_an_image_list(tmp_path):
    listed(tmp_path, ["a.png", "b.png"], "a.png 1\nb.png 0\n")
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "list.txt" root_folder: "im/"
                batch_size: 2 } transform_param { scale: 0.00392 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }""")
    net = Net(load(tmp_path / "net.prototxt", TRAIN))
    feed = Feed(net.graph.sources[0].op, 0, 0)
    assert float(net(dict(zip(("data", "label"), next(feed), strict=True)))["loss"].detach()) == pytest.approx(np.log(2))
    given = load(tmp_path / "net.prototxt", TEST, shapes={"data": (1, 3, 6, 8), "label": (1,)})
    assert given.shape("ip") == (1, 2)


# DenseImageData


def dense(folder, count=3, height=6, width=8):
    for i in range(count):
        Image.fromarray(pixels(i, height, width)).save(folder / f"{i}.png")
        label = Image.fromarray(labels(i, height, width))
        if i % 2:  # what a palette's index looks like does not count
            label = label.convert("P")
            label.putpalette([255 - v for v in range(256) for _ in range(3)])
        label.save(folder / f"{i}_l.png")
    (folder / "pairs.txt").write_text("".join(f"{folder}/{i}.png {folder}/{i}_l.png\n" for i in range(count)))


def labels(i, height=6, width=8):
    return np.random.RandomState(50 + i).randint(0, 12, (height, width)).astype(np.uint8)


PAIRS = 'source: "pairs.txt" batch_size: '


def test_images_with_label_images(tmp_path):
    dense(tmp_path)
    made = source(DenseImageData, tmp_path, PAIRS + "2", "transform_param { mean_value: 3 scale: 2 }")
    assert len(made) == 3 and made.shapes() == [(2, 3, 6, 8), (2, 1, 6, 8)]
    data, label = made.load(1)
    for i, which in enumerate((2, 0)):
        assert np.array_equal(data[i], (bgr(pixels(which)).astype(np.float32) - 3) * 2)
        assert np.array_equal(label[i, 0], labels(which))
    assert np.array_equal(made.load(0)[1][1, 0], labels(1))
    assert made.describe(0).startswith(f"{tmp_path}/0.png (label {tmp_path}/0_l.png), ") and made.image_names(0) == ["0", "1"]
    resized = source(DenseImageData, tmp_path, PAIRS + "1 new_height: 9 new_width: 5 is_color: false")
    data, label = resized.load(0)
    assert data.shape == (1, 1, 9, 5) and np.array_equal(label[0, 0], nearest(labels(0), 9, 5))


def test_labels_smaller_than_their_images(tmp_path):
    dense(tmp_path, height=7)
    made = source(DenseImageData, tmp_path, PAIRS + "2 new_height: 9 new_width: 11 label_divide_factor: 4 mirror: true")
    assert made.shapes() == [(2, 3, 9, 11), (2, 1, 2, 2)]
    small, seen = nearest(labels(0, 7), 2, 2), set()
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n2.png 2\n")
    alone = source(ImageData, tmp_path, 'source: "list.txt" batch_size: 2 new_height: 9 new_width: 11', "transform_param { mirror: true }")
    alone.seed = made.seed
    for position in range(0, 60, 3):
        data, label = made.load(position)
        assert data.shape == (2, 3, 9, 11) and np.array_equal(data, alone.load(position)[0])
        flip = not np.array_equal(data[0], made.transform(made.pixels(made.line(0)), None))
        seen.add(flip)
        assert np.array_equal(label[0, 0], small[:, ::-1] if flip else small)
    assert seen == {False, True}
    Image.fromarray(labels(0, 3, 4)).save(tmp_path / "half.png")  # as they are, where nothing is resized
    (tmp_path / "pairs.txt").write_text("0.png half.png")
    made = source(DenseImageData, tmp_path, PAIRS + "1 label_divide_factor: 2")
    assert made.shapes() == [(1, 3, 7, 8), (1, 1, 3, 4)] and np.array_equal(made.load(0)[1][0, 0], labels(0, 3, 4))


def test_crops_and_mirroring_move_labels_with_their_image(tmp_path):
    image = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    for name in ("i", "l"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.txt").write_text("i.png l.png")
    made = source(DenseImageData, tmp_path, PAIRS + "2 crop_height: 4 crop_width: 5 mirror: true is_color: false")
    assert made.shapes() == [(2, 1, 4, 5), (2, 1, 4, 5)]
    seen = []
    for position in range(300):
        data, label = made.load(position)
        assert np.array_equal(data, label)
        for crop in data[:, 0]:
            flip = crop[0, 0] > crop[0, 1]
            top, left = divmod(int(crop.min()), 8)
            assert np.array_equal(crop[:, ::-1] if flip else crop, image[top : top + 4, left : left + 5])
            seen.append((top * 4 + left) * 2 + int(flip))
    assert set(seen) == set(range(24)) and stats.chisquare(np.bincount(seen)).pvalue > 1e-3
    alike_in_any_order(made)


@pytest.mark.parametrize("text,settings,extra,words", [
    ("a.png", "1", "", "pairs of file names"),
    ("0.png 0_l.png", "1", "transform_param { mirror: true }", "use mirror, crop_height"),
    ("0.png 0_l.png", "1 mean_file: 'm'", "", "move it into transform_param"),
    ("0.png 0_l.png", "1 crop_width: 3", "", "come together"),
    ("0.png 0_l.png", "1 crop_width: 3 crop_height: 7", "", "smaller than the crop"),
    ("0.png 1.png", "1", "", "in colours"),
    ("0.png 0_l.png", "1 label_divide_factor: 0", "", "label_divide_factor must be"),
    ("0.png 0_l.png", "1 label_divide_factor: 9 new_height: 8 new_width: 9", "", "found 9"),
    ("0.png 0_l.png", "1 label_divide_factor: 2 crop_height: 2 crop_width: 2", "", "1 with a crop"),
    ("0.png 0_l.png", "1 label_divide_factor: 2", "", r"must have \[3, 4\], by label_divide_factor"),
    ("0.png big_l.png", "1", "", r"is \[6, 8\] and its label big_l.png \[7, 8\]"),
])
def test_dense_mistakes_are_named(tmp_path, text, settings, extra, words):
    dense(tmp_path)
    Image.fromarray(labels(0, 7, 8)).save(tmp_path / "big_l.png")
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(Error, match=words):
        source(DenseImageData, tmp_path, PAIRS + settings, extra).load(0)


# MemoryData


def test_memory_data_comes_from_the_caller():
    made = source(MemoryData, None, "batch_size: 2 channels: 3 height: 4 width: 5")
    assert made.fed and made.shapes() == [(2, 3, 4, 5), (2,)]
    with pytest.raises(Error, match="filled by the caller"):
        Feed(made)
    with pytest.raises(Error, match="above 0"):
        source(MemoryData, None, "batch_size: 2 channels: 3 height: 4")
    text = """layer { name: "d" type: "MemoryData" top: "x" top: "l"
                      memory_data_param { batch_size: 2 channels: 1 height: 2 width: 2 } }
              layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" } layer { name: "n" type: "Silence" bottom: "l" }"""
    net = Net(build(prototext.parse(text, caffe_pb2.NetParameter)))
    assert net({"x": torch.zeros(2, 1, 2, 2), "l": torch.zeros(2)})["y"].unique().tolist() == [0.5]


# WindowData

WINDOWS = 'source: "windows.txt" batch_size: '


def window_file(folder, *images, size=(20, 30)):
    """An image of random pixels for each list of windows "class overlap x1 y1 x2 y2"."""
    text = ""
    for i, windows in enumerate(images):
        Image.fromarray(pixels(i, *size)).save(folder / f"w{i}.png")
        text += f"# {i}\n{folder}/w{i}.png\n3\n{size[0]}\n{size[1]}\n{len(windows)}\n" + "".join(f"{w}\n" for w in windows)
    (folder / "windows.txt").write_text(text)


def test_windows_are_warped_background_first(tmp_path):
    window_file(tmp_path, ["2 0.8 3 4 14 13", "5 0.2 0 0 9 9"])
    made = source(WindowData, tmp_path, WINDOWS + "4 fg_fraction: 0.5 scale: 2",
                  "transform_param { crop_size: 7 mean_value: 10 }")
    assert made.shapes() == [(4, 3, 7, 7), (4,)] and made.fed is False and not hasattr(made, "__len__")
    data, label = made.load(0)
    assert label.tolist() == [0, 0, 2, 2]
    for i, cut in ((0, np.s_[0:10, 0:10]), (3, np.s_[4:14, 3:15])):
        assert np.array_equal(data[i], (resize(bgr(pixels(0, 20, 30)[cut]), 7, 7).astype(np.float32) - 10) * 2)


def test_windows_are_drawn_alike_from_each_kind(tmp_path):
    fg = [f"{1 + i} 0.9 {i} 0 {i + 5} 5" for i in range(6)]
    bg = [f"{1 + i} 0.1 {i} 6 {i + 5} 15" for i in range(4)] + ["1 0.45 0 0 3 3"]
    window_file(tmp_path, fg[:3] + bg[:2], fg[3:] + bg[2:])
    made = source(WindowData, tmp_path, WINDOWS + "8 fg_fraction: 0.3 fg_threshold: 0.6 bg_threshold: 0.4",
                  "transform_param { crop_size: 3 mirror: true }")
    drawn, flips = [], 0
    kinds = {resize(bgr(pixels(i // 2, 20, 30)[6:16, i : i + 6]), 3, 3).tobytes(): i for i in range(4)}
    for position in range(250):
        data, label = made.load(position)
        assert (label[:6] == 0).all() and (label[6:] > 0).all()
        drawn += label[6:].astype(int).tolist()
        for image in data[:6].astype(np.uint8):
            flips += image.tobytes() not in kinds
            assert (image if image.tobytes() in kinds else image[:, :, ::-1]).tobytes() in kinds, "0.45 is of neither kind"
    assert stats.chisquare(np.bincount(drawn, minlength=7)[1:]).pvalue > 1e-3
    assert stats.binomtest(flips, 1500, 0.5).pvalue > 1e-3
    alike_in_any_order(made)


def naive_place(window, size, crop, pad, square):
    """Where the centre of each top pixel lies in the image, (row, column), by the definition of context padding."""
    x1, y1, x2, y2 = window
    half = [(y2 - y1 + 1) / 2, (x2 - x1 + 1) / 2]
    centre = [y1 + half[0], x1 + half[1]]
    if square:
        half = [max(half)] * 2
    wide = [h * crop / (crop - 2 * pad) for h in half]
    return [(round(c - w), round(c + w)) for c, w in zip(centre, wide, strict=True)]


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("pad", [0, 2])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [(8, 6, 19, 13), (0, 0, 5, 8), (22, 3, 29, 19), (1, 15, 27, 19)])
def test_context_and_what_lies_outside_the_image(tmp_path, square, pad, flip, window):
    window_file(tmp_path, [f"1 1 {' '.join(map(str, window))}", "1 0 0 0 5 5"])
    mode = 'crop_mode: "square"' if square else ""
    made = source(WindowData, tmp_path, f"{WINDOWS} 1 fg_fraction: 1 context_pad: {pad} {mode}",
                  "transform_param { crop_size: 12 }")
    place = made.place(np.array(window, np.float32), (20, 30), flip)
    if not square and not pad:
        assert (place.size, place.begin) == ((12, 12), (0, 0))
        return
    for i, ((first, last), span, n) in enumerate(zip(naive_place(window, (20, 30), 12, pad, square), place[:2], (20, 30),
                                                     strict=True)):
        assert (span.start, span.stop) == (max(first, 0), min(last + 1, n))
        share = 12 / (last - first + 1)
        before = max(0, last - n + 1) if flip and i == 1 else max(0, -first)
        assert place.begin[i] == int(before * share + 0.5)
        assert place.size[i] == min(int((span.stop - span.start) * share + 0.5), 12 - place.begin[i])
    data, _ = made.load(0)
    if not flip:
        inside = np.zeros((12, 12), bool)
        inside[place.begin[0] : place.begin[0] + place.size[0], place.begin[1] : place.begin[1] + place.size[1]] = True
        assert (data[0][:, ~inside] == 0).all()
        image = resize(bgr(pixels(0, 20, 30))[:, place.rows, place.columns], *place.size)
        assert np.array_equal(data[0][:, inside], image.reshape(3, -1))


def test_the_middle_of_a_mean_image_is_taken_from_windows(tmp_path):
    window_file(tmp_path, ["1 1 0 0 11 9", "1 0 0 0 5 5"])
    mean = np.random.RandomState(0).rand(3, 10, 10).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=10, width=10, data=mean.ravel())
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    made = source(WindowData, tmp_path, WINDOWS + "1 fg_fraction: 1 context_pad: 1",
                  'transform_param { crop_size: 6 mean_file: "mean" }')
    place = made.place(np.array([0, 0, 11, 9], np.float32), (20, 30), False)
    (top, left), (high, wide) = place.begin, place.size
    assert top > 0 and left > 0
    image = resize(bgr(pixels(0, 20, 30))[:, place.rows, place.columns], high, wide)
    expected = image - mean[:, 2 + top : 2 + top + high, 2 + left : 2 + left + wide]
    np.testing.assert_allclose(made.load(0)[0][0, :, top : top + high, left : left + wide], expected, atol=1e-4)


@pytest.mark.parametrize("windows,settings,extra,words", [
    (["1 1 0 0 5 5"], "1", "crop_size: 4", "no background window"),
    (["1 0 0 0 5 5"], "1", "crop_size: 4", "no object window"),
    (["0 1 0 0 5 5", "1 0 0 0 5 5"], "1", "crop_size: 4", "class 0, which is the background"),
    (["1 1 0 0 30 5", "1 0 0 0 5 5"], "1 fg_fraction: 1", "crop_size: 4", r"window \[0, 0, 30, 5\] of .*w0.png does not lie"),
    (["1 1 0 0 5 5", "1 0 0 0 5 5"], "1", "", "needs a crop_size"),
    (["1 1 0 0 5 5", "1 0 0 0 5 5"], "0", "crop_size: 4", "batch_size"),
    (["1 1 0 0 5 5", "1 0 0 0 5 5"], "1 context_pad: 2", "crop_size: 4", "leaves nothing"),
    (["1 1 0 0 5 5", "1 0 0 0 5 5"], "1 crop_mode: 'round'", "crop_size: 4", "found 'round'"),
    (["1 1 0 0 5 5", "1 0 0 0 5 5"], "1", "crop_size: 4 scale: 2", "move it into window_data_param"),
    (["1 1 0 0 5 5", "1 0 0 0 5"], "1", "crop_size: 4", "image 0 is not written as"),
    ([], "1", "crop_size: 4", "no background window"),
])
def test_window_mistakes_are_named(tmp_path, windows, settings, extra, words):
    window_file(tmp_path, windows)
    with pytest.raises(Error, match=words):
        source(WindowData, tmp_path, WINDOWS + settings, f"transform_param {{ {extra} }}").load(0)
