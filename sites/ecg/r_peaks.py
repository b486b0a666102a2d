"""R peaks of recordings without annotations, by two published detectors.

`detect_qrs`: Elgendi 2013 (PLoS ONE 8(9):e73557): a block is where the moving average of the squared 8 to 20 Hz band
over one QRS (97 ms) exceeds that over one beat (611 ms) by 8 % of the mean. It has no learning phase, so it suits
strips of ten seconds. The R peak is the largest deflection of the block; of two within 200 ms, when the ventricles
cannot be excited again (Pan, Tompkins 1985, IEEE TBME 32(3):230-236), the stronger is kept.

`detect_kachuee`: Kachuee, Fazeli, Sarrafzadeh 2018 (ICHI, arXiv:1805.00794): windows of 10 s scaled to [0, 1], and
their local maxima above 0.9. It finds only the tall beats, and T waves that are as tall.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from sites.ecg.filtering import resample_and_filter

QRS_SECONDS, BEAT_SECONDS, OFFSET, REFRACTORY_SECONDS = 0.097, 0.611, 0.08, 0.2
WINDOW_SECONDS, TALL = 10, 0.9


def detect_qrs(lead: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.int64]:
    """Return the R peaks of one lead.

    Args:
        lead: `(samples,)`, finite, at least a second long.
        rate: sampling rate, Hz, above 40.

    Returns:
        samples of the R peaks, in order; empty for a flat lead.
    """
    if len(lead) < rate or np.ptp(lead) == 0:
        return np.zeros(0, dtype=np.int64)
    from scipy.signal import butter, sosfiltfilt

    band = butter(3, (8.0, 20.0), "bandpass", fs=rate, output="sos")
    energy = np.asarray(sosfiltfilt(band, lead.astype(np.float64))) ** 2
    short, long = (
        uniform_filter1d(energy, max(1, round(seconds * rate)), mode="constant")
        for seconds in (QRS_SECONDS, BEAT_SECONDS)
    )
    raised = np.concatenate([[False], short > long + OFFSET * energy.mean(), [False]])
    edges = np.flatnonzero(raised[1:] != raised[:-1])
    start, end = edges[::2], edges[1::2]
    wide = end - start >= QRS_SECONDS * rate
    start, end = start[wide], end[wide]
    # High-passed, so that a wandering baseline does not decide which sample is the peak.
    level = resample_and_filter(lead[:, None], rate, rate, (0.5, 40.0))[:, 0]
    peaks: list[int] = []
    strength: list[float] = []
    for first, last in zip(start, end, strict=True):
        part = level[first:last]
        top, bottom = int(part.argmax()), int(part.argmin())
        # A QRS points down if it is more than 1.5 times as deep as it is high.
        peak = int(first) + (bottom if -part[bottom] > 1.5 * part[top] else top)
        strong = float(energy[first:last].max())
        if peaks and peak - peaks[-1] < REFRACTORY_SECONDS * rate:
            if strong <= strength[-1]:
                continue
            peaks.pop()
            strength.pop()
        peaks.append(peak)
        strength.append(strong)
    return np.asarray(peaks, dtype=np.int64)


def detect_kachuee(lead: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.int64]:
    """Return the R peaks of one lead by steps 1 to 4 of Kachuee's method.

    Args:
        lead: `(samples,)`; samples after its last complete window of 10 s are ignored.
        rate: sampling rate, Hz.

    Returns:
        samples of the R peaks, in order.
    """
    width = int(WINDOW_SECONDS * rate)
    count = len(lead) // width
    windows = lead[: count * width].reshape(count, width)
    low, high = windows.min(1, keepdims=True), windows.max(1, keepdims=True)
    scaled = (windows - low) / np.maximum(high - low, 1e-6)
    falls = np.zeros(scaled.shape, dtype=np.bool_)
    falls[:, 1:-1] = (scaled[:, 1:-1] > scaled[:, :-2]) & (scaled[:, 1:-1] >= scaled[:, 2:])
    return np.flatnonzero((falls & (scaled >= TALL)).ravel()).astype(np.int64)
