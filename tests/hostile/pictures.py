"""Attempts with images of every format that Pillow writes, and with arrays: .npy, .npz and .mat."""

import io
import random
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from training import SOLVER, write_job, write_voc

from .changing import REAL, TEXTS, WHOLE, bytes_changed
from .drawing import Area
from .nets import GOLDEN, ONE_LABEL
from .runner import door

DEPLOY = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }"""
IMAGES = """layer { name: "data" type: "ImageData" top: "data" top: "label" image_data_param { source: "list.txt" batch_size: 1 new_height: 8 new_width: 9 } }"""
SIZES = (0, 1, 255, 65535, 2**16, 2**24, 2**31 - 1, 2**32 - 1)


@door
def read_image(path: str) -> None:
    from netspec.data.images import read_image, read_label

    read_image(Path(path))
    read_label(Path(path), resize=0.5, legend=np.zeros((2, 3), np.uint8), nearest=True)


@door
def read_label(path: str, key: str = "") -> None:
    from netspec.data.images import read_label

    read_label(Path(path), key=key)


@door
def load_image(path: str) -> None:
    from netspec.pycaffe.io import load_image

    with suppress(OSError):  # as Pillow's own
        load_image(path)


@door
def read_scene(path: str) -> None:
    from netspec.data.geotiff import read, scenes

    for files in scenes([path])[0]:
        read(files, ("red", "green", "blue", "nir"), ("red", "green", "blue", "nir"))


@cache
def pictures() -> dict[str, bytes]:
    """Small images: 'FORMAT MODE' -> the file."""
    Image.init()
    found, random = {}, np.random.default_rng(1)
    for form in sorted({*Image.SAVE} - {"PDF", "PALM"}):
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LA", "YCbCr"):
            image = Image.fromarray(random.integers(0, 256, (9, 11, 3), np.uint8)).convert(mode if mode != "I;16" else "I")
            image = image.convert("I;16") if mode == "I;16" else image
            file = io.BytesIO()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    more = {"save_all": True, "append_images": [image]} if form in ("GIF", "TIFF", "WEBP", "MPO") and mode == "RGB" else {}
                    image.save(file, form, **more)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RuntimeError):  # what a format has not
                continue
            found[f"{form} {mode}"] = file.getvalue()
    return found


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(numbers: random.Random) -> bytes:
    """A PNG with a header of extreme numbers, chunks in any order, texts and profiles that unfold."""
    wide, high = (numbers.choice((*SIZES, 9, 9, 9)) for _ in range(2))
    head = struct.pack(">IIBBBBB", wide & 2**32 - 1, high & 2**32 - 1, numbers.choice((8, 8, 1, 16, 3)), numbers.choice((2, 0, 3, 4, 6, 7)),
                       0, 0, numbers.choice((0, 0, 1)))
    bomb = zlib.compress(bytes(numbers.choice((300, 10**6, 10**8))), 9)
    chunks = [_png_chunk(b"IDAT", numbers.choice((bomb, zlib.compress(bytes(9 * 28)))))]
    for _ in range(numbers.randrange(4)):
        kind = numbers.choice((b"zTXt", b"iCCP", b"tEXt", b"iTXt", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"gAMA", b"cICP"))
        data = numbers.choice((b"a\0\0" + bomb, b"", b"Exif\0\0II*\0\x08\0\0\0", bytes(numbers.randrange(40)), b"a\0\x1b[31m"))
        chunks.insert(0 if numbers.random() < 0.7 else len(chunks), _png_chunk(kind, data))
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", head) + b"".join(chunks) + _png_chunk(b"IEND", b"")


def _picture(numbers: random.Random) -> tuple[str, bytes]:
    """A file's ending, and what is in it."""
    if numbers.random() < 0.15:
        return "png", _png(numbers)
    name, data = numbers.choice(list(pictures().items()))
    for _ in range(numbers.choice((0, 1, 1, 1, 2, 4))):
        data = bytes_changed(data, numbers, numbers.choice((12, 40, 200)))
    if numbers.random() < 0.1:  # sizes where many formats have theirs
        at = numbers.choice((4, 6, 8, 10, 12, 16, 18, 20, 22))
        data = data[:at] + struct.pack(numbers.choice(("<I", ">I", "<H", ">H")), numbers.choice((255, 65535))) + data[at + 4:]
    endings = [end[1:] for end, form in Image.registered_extensions().items() if form == name.split()[0]]
    return numbers.choice(endings if endings and numbers.random() < 0.8 else ("png", "jpg", "tif")), data


def weights() -> bytes:
    """Of DEPLOY."""
    from netspec.proto.caffe_pb2 import NetParameter

    net = NetParameter(name="tiny")
    layer = net.layer.add(name="score", type="Convolution")
    for shape in ((4, 3, 3, 3), (4,)):
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend([0.01] * int(np.prod(shape)))
    return net.SerializeToString()


def deploy(folder: Path) -> None:
    (folder / "deploy.prototxt").write_text(DEPLOY)
    (folder / "w.caffemodel").write_bytes(weights())


def image(numbers: random.Random, folder: Path) -> list:
    end, data = _picture(numbers)
    name = f"picture.{end}"
    kind = numbers.randrange(10)
    if kind < 4:
        (folder / name).write_bytes(data)
        return [numbers.choice(("read_image", "read_label", "load_image", "read_scene")), name]
    if kind < 7:
        deploy(folder)
        (folder / name).write_bytes(data)
        more = numbers.choice(([], [], ["--flip"], ["--scales", "0.5,1"], ["--scores"], ["--json"], ["--alpha", "1"]))
        return ["netspec", "infer", "deploy.prototxt", "w.caffemodel", name, "--mean", "1,2,3", "--out", "out", *more]
    if kind < 9:
        write_voc(folder, 2)
        place = numbers.choice(("images/JPEGImages/im0.jpg", "images/SegmentationClass/im0.png"))
        (folder / place).write_bytes(data)
        return ["netspec", "data", "check", "images", "--dataset", "voc", "--jobs", "1", *numbers.choice(([], ["--sheet", "sheet.png"]))]
    write_job(folder, solver=SOLVER.replace("max_iter: 12", "max_iter: 2"), data=IMAGES, body=ONE_LABEL)
    (folder / name).write_bytes(data)
    (folder / "list.txt").write_text(f"{name} {numbers.choice((0, 1, -1, 2**40, 'a', ''))}\n")
    return ["netspec", *numbers.choice((["solve", "solver.prototxt"], ["describe", "net.prototxt"]))]


def _npy(numbers: random.Random, array: np.ndarray) -> bytes:
    """An .npy file whose header may say anything."""
    file = io.BytesIO()
    np.save(file, array)
    data = file.getvalue()
    if numbers.random() < 0.5:
        shape = numbers.choice((str(array.shape), "()", "(0,)", "(-1, 3)", "(1 << 40,)", "(1099511627776,)", "(65536, 65536, 65536)", "(2, 3,", "None",
                                "(" * 300, "(1.5,)", "(True,)", f"({numbers.choice(WHOLE)},)"))
        kind = numbers.choice(("<f4", "|u1", "|O", "|V8", "<U9", "[('a', '<f4')]", ">i4", "<M8[s]", "<c16", "x", "<f4" * 999, "|S0", "<U0", "<f2", "|b1"))
        head = f"{{'descr': {kind!r}, 'fortran_order': {numbers.choice((True, False, 1))}, 'shape': {shape}, }}"
        head = numbers.choice((head, head, head, "{" * 5000, "{}", "1" * 20000, "\x1b[31m")) + "\n"
        version = numbers.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
        size = struct.pack("<H" if version[0] == 1 else "<I", numbers.choice((len(head), len(head), 65535)) & 65535)
        data = b"\x93NUMPY" + bytes(version) + size + head.encode() + array.tobytes()
    return bytes_changed(data, numbers, 130) if numbers.random() < 0.4 else data


def _npz(numbers: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", numbers.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        warnings.simplefilter("ignore")
        for name, array in arrays.items():
            if numbers.random() < 0.2:
                name = numbers.choice((name.upper(), *arrays, *(text for text in TEXTS if "\0" not in text)))
            data = _npy(numbers, array) if numbers.random() < 0.4 else None
            if data is None:
                plain = io.BytesIO()
                np.save(plain, array)
                data = plain.getvalue()
            archive.writestr(f"{name}.npy" if numbers.random() < 0.95 else name or "a", data)
        if numbers.random() < 0.1:
            archive.writestr("bomb.npy", b"\x93NUMPY\x01\0" + bytes(3 << 20))
    data = file.getvalue()
    return bytes_changed(data, numbers) if numbers.random() < 0.3 else data


def _mat(numbers: random.Random) -> bytes:
    label = np.array([[0, 1, 2], [3, 255, 0]], numbers.choice((np.uint8, np.float64, np.int16, np.float32, np.uint32)))
    inside = numbers.choice((label, {"Segmentation": label}, [[label, "text"]], np.array([label, 'x'], object), "text", label.astype(bool),
                             np.zeros((0, 0)), np.zeros((2, 3, 4)), label * 1j, {"a": {"b": {"c": label}}}))
    file = io.BytesIO()
    savemat(file, {numbers.choice(("GTcls", "S", "x")): inside, **({"more": label} if numbers.random() < 0.2 else {})},
            format=numbers.choice(("5", "5", "4")) if isinstance(inside, np.ndarray) and inside.dtype != object and inside.ndim == 2 else "5",
            do_compression=numbers.random() < 0.3)
    data = file.getvalue()
    for _ in range(numbers.choice((0, 1, 1, 2, 3))):
        data = bytes_changed(data, numbers) if numbers.random() < 0.3 else data[:124] + bytes_changed(data[124:], numbers, 80)
    return data


def array(numbers: random.Random, folder: Path) -> list:
    kind = numbers.randrange(10)
    if kind < 3:
        (folder / "a.npy").write_bytes(_npy(numbers, np.array([[0, 1, 2], [3, 255, 0]], numbers.choice(("u1", "f4", "f8", "i8")))))
        if numbers.random() < 0.3:
            (folder / "net.prototxt").write_text(DEPLOY)
            return ["netspec", "doctor", "net.prototxt", "--image", "a.npy"]
        return ["read_label", "a.npy"]
    if kind < 7:
        (folder / "a.mat").write_bytes(_mat(numbers))
        return ["read_label", "a.mat", numbers.choice(("", "GTcls", "GTcls.Segmentation", "S", "S.a", *TEXTS))]
    case = numbers.choice(sorted(GOLDEN.glob("layers/*.npz")))
    with np.load(case) as file:
        arrays = dict(file)
    for name in list(arrays):
        if numbers.random() < 0.1:
            made = arrays.pop(name)
            if numbers.random() < 0.7:
                with np.errstate(all="ignore"):
                    arrays[name] = numbers.choice((made.ravel(), made[None], made.astype("U9"), made.ravel()[:0], np.array(3),
                                                   made * np.float32(numbers.choice(REAL)) if made.dtype.kind == "f" else made))
    (folder / "case.npz").write_bytes(_npz(numbers, arrays))
    (folder / "net.prototxt").write_bytes(case.with_suffix(".prototxt").read_bytes())
    return ["netspec", "parity", "net.prototxt", "case.npz"]


AREAS = {"images": Area(image, 10_000), "arrays": Area(array, 8_000)}
