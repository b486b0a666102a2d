from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import DataError
from sites import cache, memory_map

ROWS = np.arange(35, dtype=np.float32).reshape(7, 5)
BLOCKS: dict[str, memory_map.Blocks] = {
    "marks": ((3,), np.uint8, [np.array([1, 2], np.uint8), np.array([3], np.uint8)]),
    "rows": ((7, 5), np.float32, [ROWS[:4], ROWS[4:]]),
    "none": ((0, 5), np.float32, []),
    "first": ((2,), np.int64, [np.array([0, 4])]),
}


def test_blocks_come_back_as_one_array_and_any_reader_of_safetensors_knows_them(tmp_path: Path) -> None:
    memory_map.write_tables(tmp_path / "deep" / "er", "k", BLOCKS, {"what": "äö\n"})
    found = memory_map.open_tables(tmp_path / "deep" / "er", "k")
    assert found is not None
    arrays, about = found
    assert about == {"what": "äö\n"} == cache.read_notes(tmp_path / "deep" / "er", "k")
    other = load_file(tmp_path / "deep" / "er" / "k.safetensors")
    assert arrays.keys() == other.keys() == BLOCKS.keys()
    for name, (shape, kind, _) in BLOCKS.items():
        assert (arrays[name].shape, arrays[name].dtype) == (shape, np.dtype(kind))
        assert arrays[name].flags.aligned
        np.testing.assert_array_equal(arrays[name], other[name])
    np.testing.assert_array_equal(arrays["rows"], ROWS)
    assert arrays["marks"].tolist() == [1, 2, 3]


def test_a_mapped_array_may_be_changed_and_the_file_stays(tmp_path: Path) -> None:
    memory_map.write_tables(tmp_path, "k", BLOCKS, {})
    for _ in range(2):
        found = memory_map.open_tables(tmp_path, "k")
        assert found is not None
        np.testing.assert_array_equal(found[0]["rows"], ROWS)
        found[0]["rows"] += 1


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_a_damaged_file_is_none(tmp_path: Path, keep: int) -> None:
    assert memory_map.open_tables(tmp_path, "k") is None
    memory_map.write_tables(tmp_path, "k", BLOCKS, {})
    path = tmp_path / "k.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert memory_map.open_tables(tmp_path, "k") is None
    path.write_bytes(content + b"x")
    assert memory_map.open_tables(tmp_path, "k") is None


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not of the shape"):
        memory_map.write_tables(tmp_path, "k", {"rows": ((8, 5), np.float32, [ROWS])}, {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*set WARDROUND_CACHE"):
        memory_map.write_tables(tmp_path / "file", "k", BLOCKS, {})
