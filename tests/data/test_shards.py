"""Data sets in shards: what is a sample, which sample comes when, and archives that are not what they should be."""

import gzip
import io
import itertools
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.data.feed import Feed
from netspec.data.segmentation import SegmentationData
from netspec.data.sharded import Order
from netspec.data.shards import MOST, Shard, named
from netspec.ops.base import Context
from netspec.proto import caffe_pb2

pytest.importorskip("webdataset")
CLASSES = ["wall", "crack"]


def png(seed, size=(8, 6)):
    """An image's bytes, and its label's."""
    pixels, files = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8), []
    for array in (pixels, pixels[..., 0] % 2):
        files.append(io.BytesIO())
        Image.fromarray(array).save(files[-1], "PNG")
    return [file.getvalue() for file in files]


def info_of(name, **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def write(path, *members, form=tarfile.PAX_FORMAT):
    """A tar of (name or TarInfo, bytes)."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pair(key, seed, ending=".png"):
    image, label = png(seed)
    return (f"{key}{ending}", image), (f"{key}.seg.png", label)


def shards(root, counts, split="train"):
    """Shards of so many samples; the seed of sample number i of all is i."""
    number = itertools.count()
    return [write(root / f"{split}-{s:06d}.tar", *(file for _ in range(count) for i in [next(number)] for file in pair(f"im{i}", i)))
            for s, count in enumerate(counts)]


def source(root, top=("data", "label"), **options):
    given = dict(dataset="folder", root=str(root), classes=CLASSES, split="train", shards="{split}-*.tar", mean=(0, 0, 0)) | options
    given = {key: value for key, value in given.items() if value is not None}
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=top)
    layer.python_param.param_str = str(given)
    return SegmentationData(layer, (), Context())


def seen(data, position):
    """The seeds of a batch's images, by their pixels."""
    known = {np.asarray(Image.open(io.BytesIO(png(seed)[0]))).tobytes(): seed for seed in range(len(data))}
    return [known[image[::-1].transpose(1, 2, 0).astype(np.uint8).tobytes()] for image in data.load(position)[0]]


# What is a sample


def test_shards_give_what_the_same_files_in_folders_give(tmp_path):
    shards(tmp_path, [3, 3])
    for i, folder in itertools.product(range(6), ("images", "labels")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"im{i}.png").write_bytes(png(i)[folder == "labels"])
    (tmp_path / "train.txt").write_text("".join(f"im{i}\n" for i in (0, 3, 1, 4, 2, 5)))
    more = dict(randomize=False, mirror=True, crop=[5, 5], batch_size=1, mean=(1, 2, 3.5))
    packed, plain = source(tmp_path, **more), source(tmp_path, shards=None, **more)
    for position in (0, 1, 5, 6, 40, 2):
        for a, b in zip(packed.load(position), plain.load(position), strict=True):
            assert np.array_equal(a, b)
    assert packed.shapes() == plain.shapes() and len(packed) == len(plain) == 6
    assert packed.image_names(3) == ["train-000001.tar/im4"]
    assert packed.describe(3) == f"{tmp_path}/train-000001.tar/im4.png (label {tmp_path}/train-000001.tar/im4.seg.png)"
    packed.check_files()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_are_webdatasets(tmp_path, form):
    long = "l" * 90 if form == tarfile.USTAR_FORMAT else "d" * 200 + "/" + "l" * 150
    keys = ["a", "./b", "c/d.e/f", "/etc/g", "../../h", long, "\u00e9 \udcff" if form != tarfile.USTAR_FORMAT else "i"]
    files = [file for i, key in enumerate(keys) for file in pair(key, i, ".PNG")]
    write(tmp_path / "train-0.tar", (info_of("c/d.e", type=tarfile.DIRTYPE), b""), *files, ("README", b"x"), ("a/.hidden.png", b"x"),
          ("__meta__/a.json", b"{}"), form=form)
    data = source(tmp_path, randomize=False, images="{name}.png")
    assert data.names == [f"train-0.tar/{key}" for key in ("a", "b", "c/d.e/f", "etc/g", "h", long, keys[-1])]
    assert [seen_ for position in range(7) for seen_ in seen(data, position)] == [*range(7)]
    (remark,) = data.remarks()
    assert "3 members of no sample left out, such as README" in remark
    data.check_files()
    with pytest.raises(Error, match=r"7 images are not there, such as \S*/a.jpg; the option 'images': '\{name\}.ENDING' in param_str says which"):
        source(tmp_path, images="{name}.jpg").check_files()


def test_endings_choose_the_member(tmp_path):
    image, label = png(0)
    write(tmp_path / "train-0.tar", ("a.left.png", image), ("a.right.png", png(1)[0]), ("a.mask.gif", label), ("a.mask.json", b"{}"), ("a.npy", b"x"))
    assert seen(source(tmp_path, images="{name}.LEFT.png", labels="{name}.mask.*"), 0) == [0]
    with pytest.raises(Error, match=r"both \S*train-0.tar/a.left.png and .*say which is meant by a pattern: \{name\}.left.png"):
        write(tmp_path / "train-0.tar", ("a.left.png", image), ("a.left.bmp", image), ("a.seg.png", label))
        source(tmp_path, images="{name}.left.*").load(0)


def test_a_shard_that_changes_is_read_anew(tmp_path):
    write(tmp_path / "train-0.tar", *pair("a", 0))
    data = source(tmp_path)
    first = data.load(0)[0]
    write(tmp_path / "train-0.tar", ("0.png", b"x" * 999), *pair("a", 0))
    assert np.array_equal(data.load(0)[0], first)


# Which sample comes when


@pytest.mark.parametrize("counts", [[1], [4, 4, 4], [5, 4, 2], [1, 7, 1, 3], [6, 6, 6, 6], [9, 0, 2], [2, 9]])
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("drawn", [True, False])
def test_each_sample_comes_once_an_epoch(counts, batch, drawn):
    def order():
        return Order(counts, batch, (lambda *numbers: np.random.default_rng([7, *numbers])) if drawn else None)

    total, made = sum(counts), order()
    items = [made.index(i) for i in range(5 * total)]
    for epoch in range(5):
        assert sorted(items[epoch * total:][:total]) == [*range(total)]
    mixed = np.random.default_rng(0).permutation(5 * total)  # a function of the item alone
    again = order()
    assert [again.index(int(i)) for i in mixed] == [items[i] for i in mixed]


def test_the_order_follows_the_formula():
    made = Order([4, 4, 4], 2)
    assert [made.index(i) for i in range(14)] == [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11, 0, 1]
    unequal = Order([4, 2, 1], 1)  # rounds of three; the last shards' free places get what the first has too much
    assert [unequal.index(i) for i in range(7)] == [0, 4, 6, 1, 5, 3, 2]


def test_epochs_are_drawn_each_anew_and_by_the_seed(tmp_path):
    shards(tmp_path, [6, 6])
    epochs = [[source(tmp_path, seed=seed).index(i) for i in range(12 * epoch, 12 * epoch + 12)] for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert epochs[0] == epochs[3] and epochs[0] != epochs[1] and epochs[0] != epochs[2]
    assert [place // 6 for place in epochs[0]] == [0, 1] * 6


@pytest.mark.parametrize("batch", [1, 3])
def test_ranks_and_workers_have_their_own_shards(batch):
    shards_, each, parts = 12, 6, 4  # of 2 ranks with 2 workers
    made = Order([each] * shards_, batch, lambda *numbers: np.random.default_rng(numbers))
    reads = [{made.index(p * batch + i) // each for p in range(part, 3 * shards_ * each // batch, parts) for i in range(batch)}
             for part in range(parts)]
    assert reads == [{*range(part, shards_, parts)} for part in range(parts)]


opened: list[str] = []
watching = False
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if watching and event == "open" else None)


def test_a_rank_opens_its_own_shards_alone_and_sees_its_share(tmp_path):
    global watching
    paths = shards(tmp_path, [3] * 4)
    whole = source(tmp_path, seed=5)
    for rank in range(2):
        data = source(tmp_path, seed=5)
        feed = Feed(data, rank, workers=0, step=2)
        opened.clear()
        watching = True
        try:
            batches = [next(feed)[0] for _ in range(12)]  # two epochs
        finally:
            watching = False
            feed.close()
        assert {Path(path) for path in opened if path.endswith(".tar")} == {*paths[rank::2]}
        for number, batch in enumerate(batches):
            assert np.array_equal(batch, whole.load(rank + 2 * number)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_from_any_position(tmp_path, workers):
    shards(tmp_path, [3, 5, 4])
    more = dict(batch_size=2, mirror=True, crop=[4, 4])
    whole = [source(tmp_path, **more).load(position) for position in range(16)]
    for position in (0, 5, 6, 11) if not workers else (7,):
        feed = Feed(source(tmp_path, **more), position, workers)
        for wanted in whole[position:]:
            assert all(map(np.array_equal, next(feed), wanted))
        feed.close()


# What is no shard


def raises(path, match):
    with pytest.raises(Error, match=match) as found:
        Shard(path)
    assert str(path) in str(found.value)


def test_archives_that_are_damaged(tmp_path):
    whole = write(tmp_path / "a.tar", *pair("a", 0), *pair("b", 1)).read_bytes()
    path, body = tmp_path / "b.tar", len(whole.rstrip(b"\0"))
    cases = [(whole[: body - 10], "cut short|unexpected end|ends beyond"), (whole[: 512 * -(-body // 512)], "cut short"), (whole[:700], "end|beyond"),
             (whole[:1024].replace(b"a.png", b"b.png") + whole[1024:], "bad checksum"), (b"", "empty|cut short"), (b"text", "trunc|header"),
             (gzip.compress(whole), "it is compressed, and shards are not: unpack it"), (png(0)[0] * 9, "header|checksum")]
    for data, match in cases:
        path.write_bytes(data)
        raises(path, match)


@pytest.mark.parametrize("members, match", [
    ([(info_of("b.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")], "holds 'b.png', a link or device"),
    ([(info_of("b.png", type=tarfile.LNKTYPE, linkname="a.png"), b"")], "holds 'b.png', a link or device"),
    ([(info_of("b.png", type=tarfile.FIFOTYPE), b"")], "holds 'b.png', a link or device"),
    ([(info_of("b.png", type=tarfile.GNUTYPE_SPARSE), b"")], "holds 'b.png', a sparse file"),
    ([(info_of("b.png", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}), b"x")], "a sparse file"),
    ([(info_of("b.png", pax_headers={"size": "-1024"}), b"")], "'b.png' ends before it begins"),
    ([(info_of("b.png", pax_headers={"size": "9999999999999"}), b"")], "'b.png', ends beyond the archive"),
    ([("b.__bad__", b"x")], "an ending|word of WebDataset's own"),
    ([("a.PNG", b"x")], "a.PNG: duplicate file name in tar file png$"),
    ([*pair("b", 1), ("a.txt", b"x")], "has members of the key 'a' in two places"),
    ([("n" * 1200 + ".png", b"x")], "a name that no file has"),
])
def test_archives_with_what_no_shard_has(tmp_path, members, match):
    raises(write(tmp_path / "a.tar", *pair("a", 0), *members), match)


def test_a_member_that_memory_has_no_room_for(tmp_path):
    path = tmp_path / "train-0.tar"
    with open(path, "wb") as file:  # a terabyte of zeros, which takes no disk
        file.write(info_of("a.png", size=1 << 40).tobuf() + b"x")
        file.truncate((1 << 40) + 2048)
    with pytest.raises(Error, match=r"train-0.tar/a.png has 1099.5 GB and cpu has"):
        source(tmp_path, ["data"], tops=["data"]).load(0)


def test_nothing_but_files_below_the_root_is_opened(tmp_path, monkeypatch):
    shards(tmp_path, [1, 1])
    assert [path.name for path in named(tmp_path, "{split}-{000000..000001}.tar", "train")] == ["train-000000.tar", "train-000001.tar"]
    assert len(named(tmp_path, "train-00000[01].tar", "x")) == 2
    for pattern, match in [("pipe:touch {split}.tar", "is not there, or no file"), ("http://127.0.0.1:9/a.tar", "is not there"), ("../a.tar", "leaves the folder"),
                           ("train-{000000..000002}.tar", "000002.tar is not there, or no file; did you mean 'train-00000"), ("val-*.tar", "no shard"),
                           ("{0..99999999999999999999}.tar", f"more than {MOST}"), ("{a,b" * 30 + "}" * 30 + ".tar", f"more than {MOST}|is not there"),
                           ("{" * 3000 + ".tar", "a brace without its other"), ("{,}" * 60 + ".tar", f"more than {MOST}"), ("a\0.tar", "is not there")]:
        with pytest.raises(Error, match=match):
            named(tmp_path, pattern, "train")
    assert not (tmp_path / "train.tar").exists()
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(Error, match="needs webdataset: pip install webdataset"):
        Shard(tmp_path / "train-000000.tar")


@pytest.mark.parametrize("more, match", [
    (dict(shards="{split}-*.tar.gz"), "end in .tar"), (dict(lists="{split}.txt"), "'lists' name images"), (dict(labels="{name}.npy"), "are images, such as PNG"),
    (dict(labels="{name}.*"), "'images' and 'labels' are both"), (dict(shards=""), "end in .tar"), (dict(labels="masks"), r"'labels' of shards takes \{name\}.ENDING"),
    (dict(images="{name}/x.png"), "'images' of shards takes"), (dict(list="train.txt"), "'list' names images in folders"), (dict(shards=3), "takes a pattern"),
])
def test_options_that_do_not_go_with_shards(tmp_path, more, match):
    shards(tmp_path, [1])
    with pytest.raises(Error, match=match):
        source(tmp_path, **more)


# Commands


def test_data_check_says_what_is_wrong(tmp_path, capsys):
    (image, label), (small, _) = png(0), png(1, (5, 5))
    write(tmp_path / "train-0.tar", *pair("fine", 2), ("alone.png", image), ("cut.png", image[:60]), ("cut.seg.png", label), ("other.png", small),
          ("other.seg.png", label))
    file = tmp_path / "set.txt"
    file.write_text("shards: {split}-*.tar\nwall\ncrack\n")
    assert main(["data", "check", str(file)]) == 1
    told = capsys.readouterr().out
    for wanted in ("/train-0.tar/alone.seg.*\n", "/train-0.tar/cut.png cannot be read", "other.png is 5x5, ", "train-0.tar/other.seg.png is 8x6"):
        assert wanted in told, told
    data = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "train-0.tar").write_bytes(data[:4000])
    assert main(["data", "check", str(file)]) == 2
    assert "train-0.tar cannot be read: " in capsys.readouterr().err
    file.write_text("shards: *.tar\nwall\ncrack\n")
    write(tmp_path / "train-0.tar", *pair("fine", 2))
    assert main(["data", "check", str(file)]) == 0  # all that there is, as split 'all'
    assert "\nall " in capsys.readouterr().out


def test_own_writes_nets_for_shards(tmp_path, capsys):
    for split in ("train", "val"):
        write(tmp_path / f"{split}-0.tar", *[(name, data) for i in range(3) for name, data in zip(
            (f"{split}{i}.png", f"{split}{i}.seg.png"), png(len(split) * 10 + i, (64, 64)), strict=True)])
    (tmp_path / "set.txt").write_text("shards: {split}-0.tar\nwall\ncrack\n")
    assert main(["own", str(tmp_path / "set.txt")]) == 0
    assert main(["data", "check", str(tmp_path / "set-fcn32s.prototxt")]) == 0
    capsys.readouterr()
    (tmp_path / "set.txt").write_text("shards: train-0.tar\nwall\ncrack\n")
    assert main(["own", str(tmp_path / "set.txt")]) == 2
    assert "are those of train and val alike" in capsys.readouterr().err
