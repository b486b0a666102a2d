"""Resampling and filtering of signals in one pass that does not move the R peak."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import scipy.fft


def resample_and_filter(
    signal: npt.NDArray[np.float32], rate: float, target: float, band: tuple[float, float] | None
) -> npt.NDArray[np.float32]:
    """Resample and band-pass in one zero-phase step in the frequency domain.

    The magnitude is that of a Butterworth filter of order 2 run forwards and backwards, at both edges:
    `1 / (1 + (low/f)^4)` and `1 / (1 + (f/high)^4)`. Resampling keeps the spectrum below both Nyquist
    limits. The ends are mirrored, because the transform treats the signal as periodic.

    Args:
        signal: `(samples, leads)`, finite.
        rate: its sampling rate, Hz.
        target: sampling rate of the result, Hz.
        band: (low, high) edges in Hz, or None to resample only.

    Returns:
        `(ceil(samples * target / rate), leads)`; sample i is at i / target seconds.
    """
    ratio = Fraction(target / rate).limit_denominator(10_000)
    up, down = ratio.numerator, ratio.denominator
    edge = min(len(signal) - 1, int(2 * rate))
    wanted = -(-len(signal) * up // down)
    blocks = scipy.fft.next_fast_len(-(-(len(signal) + 2 * edge) // down), real=True)
    length = blocks * down
    rows = np.zeros((signal.shape[1], length), dtype=np.float32)
    # There are zeros between the mirrored ends: a signal far from zero would have a step there, which rings.
    mean = signal.mean(axis=0, dtype=np.float64).astype(np.float32)
    body = np.ascontiguousarray((signal - mean).T)
    rows[:, : len(signal)] = body
    if edge:
        rows[:, len(signal) : len(signal) + edge] = body[:, -2 : -edge - 2 : -1]
        rows[:, -edge:] = body[:, edge:0:-1]
    spectrum = scipy.fft.rfft(rows, axis=1)
    keep = blocks * up // 2 + 1
    spectrum = spectrum[:, :keep] if keep <= spectrum.shape[1] else spectrum
    if band is not None:
        frequency = np.arange(spectrum.shape[1], dtype=np.float32) * np.float32(rate / length)
        low, high = band
        frequency[0] = 1e-6
        gain = 1 / (1 + (np.float32(low) / frequency) ** 4) / (1 + (frequency / np.float32(high)) ** 4)
        gain[0] = 0
        spectrum = spectrum * gain.astype(np.float32)
        mean = np.zeros_like(mean)
    out = scipy.fft.irfft(spectrum, n=blocks * up, axis=1)[:, :wanted] * np.float32(up / down)
    return np.ascontiguousarray((out.T + mean).astype(np.float32, copy=False))


def fill_gaps(signal: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the signal `(samples, leads)` with missing samples interpolated, and where any was, `(samples,)`."""
    missing = ~np.isfinite(signal)
    if not missing.any():
        return signal, np.zeros(len(signal), dtype=np.bool_)
    filled = signal.copy()
    time = np.arange(len(signal))
    for lead in range(signal.shape[1]):
        good = ~missing[:, lead]
        filled[:, lead] = np.interp(time, time[good], signal[good, lead]) if good.any() else 0
    return filled, np.asarray(missing.any(axis=1))
