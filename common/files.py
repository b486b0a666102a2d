"""Writing files whole or not at all: the only place where the program replaces a file.

A file is written under a unique temporary name in the same folder and then renamed, so that a reader sees the old
file or the new one and never a part. Temporary names are unique: two runs that write one file do not mix. With
`durable=True` the content is on the disk before the name is (fsync), so that it outlasts a power cut.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


LONG_JSON = 1_000_000
"""Characters of a JSON text beyond which it is written without indentation."""
_TEMPORARY = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.part")
"""The names that `temporary_path` gives, with the process that writes the file."""


def escape_file_name(name: str) -> str:
    """Return a name, such as a site's, as a file name: characters but letters, digits, - and _ become %xx.

    >>> escape_file_name("north"), escape_file_name("St. Mary's/2")
    ('north', 'St%2e%20Mary%27s%2f2')
    """
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"%{ord(match[0]):02x}", name)


def make_private_folder(folder: Path) -> None:
    """Create a folder, and let nobody but its owner read it and the folders in it, whatever they allowed before."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (folder, *(item for item in folder.rglob("*") if item.is_dir() and not item.is_symlink())):
        path.chmod(path.stat().st_mode & 0o700)


def temporary_path(path: Path) -> Path:
    """Return a hidden, unused path in the folder of `path`, to write to before `replace_file`."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and those below it; their writers are gone."""
    for path in folder.rglob(".*.part"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and not _runs(int(match[1])):
            with suppress(OSError):
                path.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def replace_file(written: Path, path: Path, *, durable: bool = False) -> None:
    """Give a file that was written the name `path`, in place of the file that has it."""
    if durable:
        with written.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(written, path)
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can do so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def write_atomically(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; what was written becomes `path` when the block ends without an error.

    Raises:
        OSError: the folder cannot be written, or nothing was written.
    """
    part = temporary_path(path)
    try:
        yield part
        replace_file(part, path, durable=durable)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):  # a full disk names no file
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> Path:
    """Write a file whole or not at all; return its path."""
    with write_atomically(path, durable=durable) as part:
        part.write_bytes(content)
    return path


def write_key_pair(private_path: Path, private: bytes, public_path: Path, public: bytes) -> None:
    """Write a private file, which its owner alone can read, and its public half: both whole, or none.

    Raises:
        FileExistsError: the private file exists; nothing is overwritten.
        OSError: the folder cannot be written.
    """
    part = temporary_path(private_path)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
        os.link(part, private_path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename, error.filename2 = str(private_path), None
        raise
    finally:
        part.unlink(missing_ok=True)
    try:
        write_bytes(public_path, public)
    except BaseException:
        private_path.unlink()
        raise


def write_text(path: Path, content: str, *, durable: bool = False) -> Path:
    """Write a UTF-8 text file whole or not at all; return its path."""
    return write_bytes(path, content.encode(), durable=durable)


def write_json(path: Path, value: Any, *, durable: bool = False) -> Path:
    """Write a JSON file whole or not at all and return its path; numbers that are not finite become null.

    A long file, which nobody reads line by line, has no indentation: that is half of its size.
    """
    finite = replace_non_finite(value)
    text = json.dumps(finite, indent=1, allow_nan=False)
    if len(text) > LONG_JSON:
        text = json.dumps(finite, separators=(",", ":"), allow_nan=False)
    return write_text(path, text + "\n", durable=durable)


def append_json_line(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append a value as one line of JSON; `durable`: whether the line must outlast a power cut."""
    line = memoryview((json.dumps(value, allow_nan=False) + "\n").encode())
    try:  # a text file object costs several times as much as the line
        out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while line:
                line = line[os.write(out, line) :]
            if durable:
                os.fsync(out)
        finally:
            os.close(out)
    except OSError as error:
        error.filename = str(path)
        raise


def cut_torn_line(path: Path) -> None:
    """Remove a last line that was cut off in the middle from a file of lines, if there is one."""
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        write_bytes(path, content[: content.rfind(b"\n") + 1])


def pack_arrays(arrays: Mapping[str, npt.NDArray[np.generic]], notes: Mapping[str, str] | None = None) -> bytes:
    """Return arrays and notes as the content of a .safetensors file."""
    import numpy as np
    from safetensors.numpy import save

    # safetensors writes memory in its present order: an array that is not C-contiguous would be read back scrambled
    contiguous = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return save(contiguous, None if notes is None else dict(notes))


def write_arrays(
    path: Path,
    weights: Mapping[str, npt.NDArray[np.generic]],
    notes: Mapping[str, str] | None = None,
    *,
    durable: bool = False,
) -> None:
    """Write arrays as a .safetensors file, whole or not at all.

    Args:
        path: the file.
        weights: arrays by name.
        notes: texts by name, stored with them.
        durable: whether the file must outlast a power cut.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.asarray(value, order="C") for name, value in weights.items()}  # see pack_arrays
    with write_atomically(path, durable=durable) as part:
        try:
            save_file(contiguous, part, None if notes is None else dict(notes))
        except SafetensorError as error:
            raise _restore_os_error(error, part) from None


def _restore_os_error(error: Exception, path: Path) -> OSError:
    """Return the error of the disk that safetensors reports as a text, as in `... (os error 28)`."""
    match = re.search(r"os error (\d+)", str(error))
    code = int(match[1]) if match else errno.EIO
    return OSError(code, os.strerror(code), str(path))


def replace_non_finite(value: Any) -> Any:
    """Return a JSON-ready value with None in place of NaN and infinities, for which JSON has no numbers."""
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
