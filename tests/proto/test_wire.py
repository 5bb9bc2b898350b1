"""The wire format, read from a memory map: what is large, and where it is damaged."""

import numpy as np
import pytest
from net.test_weights import blob_with, field, varint

from netspec.base.errors import Error
from netspec.proto.model import read_weights
from netspec.proto.wire import MOST_FIELDS


def test_a_run_of_unpacked_numbers_is_one_field_however_long(tmp_path):
    count = MOST_FIELDS + 1
    numbers = np.arange(count, dtype="<f4")
    unpacked = np.empty(count, np.dtype([("tag", "u1"), ("number", "<f4")]))
    unpacked["tag"], unpacked["number"] = 5 << 3 | 5, numbers
    path = tmp_path / "long.caffemodel"
    path.write_bytes(blob_with(unpacked.tobytes(), (count,)))
    (blob,) = read_weights(path)["x"]
    np.testing.assert_array_equal(blob, numbers)


def test_damage_is_told_with_its_place(tmp_path):
    path = tmp_path / "short.caffemodel"
    path.write_bytes(field(1, b"name") + field(100, bytes(9))[:-2])
    with pytest.raises(Error) as caught:
        read_weights(path)
    assert str(caught.value) == (f"{path}: byte 6: field 100 declares 9 bytes where 7 are left; the file is cut short or "
                                 "damaged: get it again")
    path.write_bytes(field(1, b"name") + varint(2**29 << 3) + b"\0")
    with pytest.raises(Error, match=f"byte 6: field number {2**29}, which cannot be"):
        read_weights(path)


def test_another_forks_field_of_raw_datas_number_is_not_taken_for_it(tmp_path):
    """Vitis-AI writes a mask there, beside the numbers; NVIDIA says the type of its own."""
    path = tmp_path / "masked.caffemodel"
    numbers = np.arange(3, dtype="<f4")
    path.write_bytes(blob_with(field(5, numbers.tobytes()) + field(12, b"\1"), (3,)))
    assert read_weights(path)["x"][0].tolist() == [0, 1, 2]
    path.write_bytes(blob_with(field(12, numbers.tobytes()), (3,)))
    with pytest.raises(Error, match="raw_data of type None"):
        read_weights(path)
