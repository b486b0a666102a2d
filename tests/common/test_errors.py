from __future__ import annotations

import inspect

import pytest

from common import errors


@pytest.mark.parametrize(
    ("error", "code", "parents"),
    [
        (errors.WardroundError, 1, []),
        (errors.SiteError, 1, ["WardroundError"]),
        (errors.EngineError, 1, ["WardroundError"]),
        (errors.UsageError, 2, ["WardroundError"]),
        (errors.ConfigError, 2, ["UsageError", "WardroundError"]),
        (errors.DataError, 2, ["UsageError", "WardroundError"]),
        (errors.LeakError, 2, ["UsageError", "WardroundError"]),
    ],
)
def test_every_error_ends_with_its_code(error: type[errors.WardroundError], code: int, parents: list[str]) -> None:
    assert error("why").exit_code == code
    assert [base.__name__ for base in error.__mro__[1:]] == [*parents, "Exception", "BaseException", "object"]


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    classes = {name for name, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == "common.errors"}
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error") or word in classes}
    assert drawn == classes
