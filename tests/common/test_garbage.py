"""While libraries are imported nothing is searched; afterwards the search is as it was."""

from __future__ import annotations

import gc

import pytest

from common.garbage import pause_collection


@pytest.mark.parametrize("collecting", [True, False])
def test_the_search_is_as_before(collecting: bool) -> None:
    was, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if collecting else gc.disable)()
        with pytest.raises(ZeroDivisionError), pause_collection():
            assert not gc.isenabled()
            _ = 1 / 0
        assert gc.isenabled() == collecting
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        (gc.enable if was else gc.disable)()
