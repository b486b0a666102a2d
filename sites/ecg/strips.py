"""Strips of one length cut from a recording, one after the other, resampled and filtered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.ecg.filtering import fill_gaps, resample_and_filter

Signal = npt.NDArray[np.float32]
MISSING_SAMPLES = "strips with missing samples"


def resample_marked(
    signal: Signal, rate: float, target: float, band: tuple[float, float] | None
) -> tuple[Signal, npt.NDArray[np.bool_]]:
    """Return a signal at another rate, and which of its samples depend on a missing one.

    Args:
        signal: `(samples, leads)`, NaN where missing.
        rate: its sampling rate, Hz.
        target: that of the result, Hz.
        band: pass band in Hz; none: not filtered.
    """
    filled, missing = fill_gaps(signal)
    resampled = resample_and_filter(filled, rate, target, band)
    near = np.zeros(len(resampled), dtype=np.bool_)
    at = np.flatnonzero(missing) * target / rate
    for side in (np.floor(at), np.ceil(at)):
        near[np.clip(side.astype(np.int64), 0, len(resampled) - 1)] = True
    return resampled, near


def cut_strips(
    signal: Signal, rate: float, target: float, seconds: int, band: tuple[float, float] | None
) -> tuple[Signal, npt.NDArray[np.int64], dict[str, int]]:
    """Return the strips of a recording that have no missing sample.

    Args:
        signal: `(samples, leads)`, NaN where missing.
        rate: its sampling rate, Hz.
        target: that of the strips, Hz.
        seconds: length of a strip.
        band: pass band in Hz; none: not filtered.

    Returns:
        strips `(strips, leads, samples)`, the number of each strip in the recording, and counts of what was excluded.
    """
    x, missing = resample_marked(signal, rate, target, band)
    width = round(seconds * target)
    count = len(x) // width
    strips = x[: count * width].reshape(count, width, x.shape[1]).transpose(0, 2, 1)
    broken = missing[: count * width].reshape(count, width).any(1)
    excluded = {
        MISSING_SAMPLES: int(broken.sum()),
        f"ends of recordings shorter than {seconds} s": int(count * width < len(x)),
    }
    excluded = {reason: number for reason, number in excluded.items() if number}
    return np.ascontiguousarray(strips[~broken]), np.flatnonzero(~broken), excluded
