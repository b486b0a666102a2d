"""The data sets with the options that the contract is tested with."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "default": [{}],
    "ecg": [
        {"view": "kachuee", "leads": 1, "classes": "NSVFQ"},
        {"view": "window", "leads": 1, "relative": False},
        {"view": "window", "leads": 2, "relative": False, "classes": "NSVFQ"},
        {"view": "window", "leads": 1, "shape": 2},
        {"view": "kachuee", "leads": 2},
    ],
}
"""What is tried on the data sets of annotated beats; of the second list what a data set's Options know."""
