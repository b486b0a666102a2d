from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites import cache
from sites.cache import Arrays

ARRAYS: Arrays = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "y": np.array([3, -1], dtype=np.int64),
    "none": np.zeros((0, 5), dtype=np.float32),
}


def make() -> tuple[Arrays, dict[str, str]]:
    return ARRAYS, {"labels": "NSVF", "other": "äö\n"}


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    cache.store_arrays(tmp_path / "deep" / "er", "k", *make())
    result = cache.load_arrays(tmp_path / "deep" / "er", "k")
    assert result is not None
    assert result[0].keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert result[0][name].dtype == value.dtype
        np.testing.assert_array_equal(result[0][name], value)
    assert result[1] == make()[1] == cache.read_notes(tmp_path / "deep" / "er", "k")


def test_arrays_that_are_views_are_stored_as_they_look(tmp_path: Path) -> None:
    view = ARRAYS["x"].T[::2]
    cache.store_arrays(tmp_path, "k", {"x": view}, {})
    result = cache.load_arrays(tmp_path, "k")
    assert result is not None
    np.testing.assert_array_equal(result[0]["x"], view)


def test_what_is_stored_is_not_made_again(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        cache.load_or_make(tmp_path, "k", lambda: calls.append(1) or make())  # type: ignore[func-returns-value]
    assert calls == [1]


@pytest.mark.parametrize("damage", ["empty", "head", "half", "one byte short", "one byte long", "garbage", "zeros"])
def test_a_damaged_file_is_never_read_but_made_again(tmp_path: Path, damage: str) -> None:
    cache.store_arrays(tmp_path, "k", *make())
    path = tmp_path / "k.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "head": whole[:5],
            "half": whole[: len(whole) // 2],
            "one byte short": whole[:-1],
            "one byte long": whole + b"\0",
            "garbage": np.random.default_rng(1).bytes(500),
            "zeros": bytes(len(whole)),
        }[damage]
    )
    assert cache.load_arrays(tmp_path, "k") is None
    assert cache.read_notes(tmp_path, "k") is None
    np.testing.assert_array_equal(cache.load_or_make(tmp_path, "k", make)[0]["x"], ARRAYS["x"])
    assert len(path.read_bytes()) == len(whole)
    assert cache.read_notes(tmp_path, "k") == make()[1]


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert cache.load_arrays(tmp_path, "k") is None
    assert cache.load_arrays(tmp_path / "none", "k") is None
    assert cache.read_notes(tmp_path / "none", "k") is None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store_arrays(tmp_path, "k", *make())

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"cannot write prepared data .*No space left on device; set WARDROUND_CACHE"):
        cache.store_arrays(tmp_path, "k", {"x": np.zeros(1)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["k.safetensors"]
    result = cache.load_arrays(tmp_path, "k")
    assert result is not None
    assert result[1] == make()[1]


def test_an_interrupted_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cache.store_arrays(tmp_path, "k", *make())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*file"):
        cache.store_arrays(tmp_path / "file", "k", *make())


def test_many_writers_and_readers_meet_whole_files_alone(tmp_path: Path) -> None:
    wrong: list[object] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for _ in range(20):
            value = np.full((50, 50), number, dtype=np.float32)
            cache.store_arrays(tmp_path, "k", {"x": value}, {"number": str(number)})
            result = cache.load_arrays(tmp_path, "k")
            if result is None or not (result[0]["x"] == float(result[1]["number"])).all():
                wrong.append(result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [path.name for path in tmp_path.iterdir()] == ["k.safetensors"]


def test_the_key_depends_on_contents_names_order_and_settings(tmp_path: Path) -> None:
    def put(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    a, b, a2, ab = put("a", b"1"), put("b", b"2"), put("a2", b"12"), put("ab", b"1")
    keys = [
        cache.content_key([a, b], {"v": 1}),
        cache.content_key([b, a], {"v": 1}),
        cache.content_key([a], {"v": 1}),
        cache.content_key([ab, b], {"v": 1}),
        cache.content_key([a2, b], {"v": 1}),
        cache.content_key([a, b], {"v": 2}),
        cache.content_key([a, b], {"v": "1"}),
        cache.content_key([a, b], {"v": 1, "w": None}),
        cache.content_key([], {"v": 1}),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.content_key([a, b], {"w": 1, "v": 2}) == cache.content_key([a, b], {"v": 2, "w": 1})
    before = cache.content_key([a], {})
    put("a", b"2")
    assert cache.content_key([a], {}) != before
    put("a", b"1")
    assert cache.content_key([a], {}) == before
    assert cache.content_key([put("elsewhere/a", b"1")], {}) == before


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDROUND_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache.cache_folder() == Path("/one")
    monkeypatch.delenv("WARDROUND_CACHE")
    assert cache.cache_folder() == Path("/two/wardround")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert cache.cache_folder() == Path("/three/.cache/wardround")
