from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites import memory_map

ROWS = np.arange(35, dtype=np.float32).reshape(7, 5)
BLOCKS: dict[str, memory_map.Blocks] = {
    "marks": ((3,), np.uint8, [np.array([1, 2], np.uint8), np.array([3], np.uint8)]),
    "rows": ((7, 5), np.float32, [ROWS[:4], ROWS[4:]]),
    "none": ((0, 5), np.float32, []),
    "first": ((2,), np.int64, [np.array([0, 4])]),
}


def test_blocks_come_back_as_one_array_and_numpy_reads_the_files(tmp_path: Path) -> None:
    memory_map.write_tables(tmp_path / "deep" / "er", "k", BLOCKS, {"what": "äö\n"})
    opened = memory_map.open_tables(tmp_path / "deep" / "er", "k")
    assert opened is not None
    arrays, notes = opened
    assert notes == {"what": "äö\n"}
    assert arrays.keys() == BLOCKS.keys()
    for name, (shape, kind, _) in BLOCKS.items():
        assert (arrays[name].shape, arrays[name].dtype) == (shape, np.dtype(kind))
        assert arrays[name].flags.aligned
        np.testing.assert_array_equal(arrays[name], np.load(tmp_path / "deep" / "er" / "k.tables" / f"{name}.npy"))
    np.testing.assert_array_equal(arrays["rows"], ROWS)
    assert arrays["marks"].tolist() == [1, 2, 3]


def test_a_mapped_array_may_be_changed_and_the_file_stays(tmp_path: Path) -> None:
    memory_map.write_tables(tmp_path, "k", BLOCKS, {})
    for _ in range(2):
        opened = memory_map.open_tables(tmp_path, "k")
        assert opened is not None
        np.testing.assert_array_equal(opened[0]["rows"], ROWS)
        opened[0]["rows"] += 1


@pytest.mark.parametrize("name", ["rows.npy", "notes.json"])
@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_a_damaged_table_is_none_and_is_written_again(tmp_path: Path, name: str, keep: int) -> None:
    assert memory_map.open_tables(tmp_path, "k") is None
    memory_map.write_tables(tmp_path, "k", BLOCKS, {"what": "a note that is longer than forty characters"})
    path = tmp_path / "k.tables" / name
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert memory_map.open_tables(tmp_path, "k") is None
    path.write_bytes(content + b"x")
    assert memory_map.open_tables(tmp_path, "k") is None
    memory_map.write_tables(tmp_path, "k", BLOCKS, {})
    assert memory_map.open_tables(tmp_path, "k") is not None


def test_a_table_that_is_complete_is_not_written_again(tmp_path: Path) -> None:
    memory_map.write_tables(tmp_path, "k", BLOCKS, {"by": "one"})
    memory_map.write_tables(tmp_path, "k", BLOCKS, {"by": "other"})
    opened = memory_map.open_tables(tmp_path, "k")
    assert opened is not None
    assert opened[1] == {"by": "one"}


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the blocks hold 35 values, the shape 40"):
        memory_map.write_tables(tmp_path, "k", {"rows": ((8, 5), np.float32, [ROWS])}, {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*set WARDROUND_CACHE"):
        memory_map.write_tables(tmp_path / "file", "k", BLOCKS, {})
