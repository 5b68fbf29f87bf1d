from pathlib import Path

import numpy as np
import pytest

from blemish.data.cache import RowFile
from blemish.errors import DataError


def test_rows_are_read_as_they_were_written_in_any_order() -> None:
    rows = np.random.default_rng(0).normal(size=(900, 37)).astype(np.float32)
    file = RowFile()
    for part in np.split(rows, [1, 400, 400, 401]):
        file.append(part)
    wanted = np.array([899, 0, 400, 0, 399])
    np.testing.assert_array_equal(file.read(wanted), rows[wanted])
    file.append(rows[:2])  # reading does not move where writing goes on
    np.testing.assert_array_equal(file.read(np.array([901, 900])), rows[[1, 0]])
    assert file.read(np.array([], np.int64)).shape == (0, 37)
    np.testing.assert_array_equal(file.read_range(399, 402), rows[399:402])
    assert file.read_range(5, 5).shape == (0, 37)


def test_parts_of_arrays_are_written_whole() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    file = RowFile()
    file.append(rows[::2, 1:3])
    np.testing.assert_array_equal(file.read(np.array([2])), [[17, 18]])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is full")
def test_a_full_disk_is_one_clear_error() -> None:
    file = RowFile()
    with Path("/dev/full").open("wb", buffering=0) as full:
        file.file = full
        with pytest.raises(
            DataError, match=r"Temporary data do not fit in .* Free space there, or set TMPDIR"
        ):
            file.append(np.zeros((1, 4), np.float32))
