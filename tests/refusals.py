"""What every refusal of bad data must be: one line that names what is wrong, and no chain that shows a value."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.errors import DataError


def refused(call: Callable[[], object], *said: str) -> str:
    """Return the text of the DataError that a call raises, which is one line and contains all of `said`."""
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text
