"""The hourly risks of a ward's patients, from rows or FHIR Observations that devices send."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from common.errors import DataError
from experiments.monitor.hourly import HourlyModel, HourlyRisk, Stay, read_observation
from experiments.monitor.protocol import check_device
from experiments.monitor.store import Store

KEYS = {"device_id", "hour", "values", "observation"}
MAX_STAYS = 5000


class HourlyWard:
    """Stays and risks by device."""

    def __init__(self, model: HourlyModel, store: Store) -> None:
        self._model, self._store, self._lock = model, store, threading.Lock()
        self._stays: dict[str, Stay] = {}
        self.risks: dict[str, dict[int, HourlyRisk]] = {}

    def take(self, body: bytes) -> tuple[str, HourlyRisk]:
        """Take a row `{"device_id", "hour", "values" or "observation"}`, and return the device and its risk now.

        Raises:
            DataError: it is malformed; the message quotes no value.
        """
        device, hour, values = read_row(body)
        with self._lock:
            stay = self._stays.get(device)
            if stay is None:
                if len(self._stays) >= MAX_STAYS:
                    raise DataError(f"more than {MAX_STAYS} patients: start the monitor again")
                stay = Stay()
            stay.add(hour, values)
            self._stays[device] = stay
            risk = self._model.assess(stay)
            self.risks.setdefault(device, {})[risk.hour] = risk
        factors = json.dumps(dict(risk.factors))
        self._store.add_risk(device, risk.hour, time.time(), risk.risk, factors)
        return device, risk

    def describe(self, device: str) -> list[dict[str, Any]]:
        """Return a device's risks by hour, ready for JSON."""
        return [describe_risk(risk) for _, risk in sorted(self.risks.get(device, {}).items())]


def describe_risk(risk: HourlyRisk) -> dict[str, Any]:
    """Return a risk, ready for JSON."""
    factors = [{"name": name, "effect": round(effect, 4)} for name, effect in risk.factors]
    return {"hour": risk.hour, "risk": round(risk.risk, 6), "factors": factors}


def read_row(body: bytes) -> tuple[str, int, dict[str, float]]:
    """Return the device, the hour in intensive care, and the values of a row.

    Raises:
        DataError: it is malformed.
    """
    try:
        content = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise DataError("the body is no JSON: send an object with device_id, hour and values") from None
    if not isinstance(content, dict) or set(content) - KEYS or ("values" in content) == ("observation" in content):
        raise DataError("a row has device_id, hour, and either values or observation")
    device, hour = check_device(content.get("device_id")), content.get("hour")
    if isinstance(hour, bool) or not isinstance(hour, int):
        raise DataError("hour: give the hours in intensive care, a whole number")
    values = content.get("values")
    if values is None:
        observation = content["observation"]
        return device, hour, read_observation(observation if isinstance(observation, dict) else {})
    if not isinstance(values, dict) or not all(_is_number(value) for value in values.values()):
        raise DataError("values: give a number for each column that was measured")
    return device, hour, {str(name): float(value) for name, value in values.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
