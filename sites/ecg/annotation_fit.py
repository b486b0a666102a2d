"""Whether annotated beats are on the waves of their recording.

Annotations of another recording, in another clock than the header's, of a file whose samples are in another order, or
on T waves too, have the form of right ones. The R peaks that are detected in the signal (sites/ecg/r_peaks.py) show
it: in each of the 48 recordings of MIT-BIH at least 98% of the annotated beats have a detected one within 0.1 s, and
at least 89% of the detected ones an annotated one (`python -m pytest tests/sites/ecg/test_annotation_fit.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sites.ecg.r_peaks import detect_qrs

NEAR_SECONDS = 0.1
"""Distance within which an annotated and a detected beat are the same."""
FEWEST_BEATS = 20
MIN_ANNOTATED, MIN_DETECTED = 0.8, 0.7
"""Smallest shares of annotated beats that are detected, and of detected beats that are annotated. A noisy signal has
beats that are detected falsely or not at all, which the room below the shares of MIT-BIH is for."""
MOST_SHIFTED = 0.05
"""Largest median distance of annotations from the waves, in seconds; in MIT-BIH 0.02 s."""
MISFIT = "recordings whose annotated beats are not on the waves: of another one, or another clock? (not left out)"


def fits_waves(lead: npt.NDArray[np.float32], rate: float, sample: npt.NDArray[np.int64]) -> bool:
    """Return whether annotated beats are where beats are detected; True where there are too few to judge.

    Args:
        lead: `(samples,)` of the lead that is read first, finite.
        rate: its sampling rate, Hz.
        sample: samples of the annotated beats, in order.
    """
    if len(sample) < FEWEST_BEATS:
        return True
    detected = detect_qrs(lead, rate)
    if len(detected) < FEWEST_BEATS // 2:
        return False
    distance = _distance_to_nearest(sample, detected) / rate
    near = np.abs(distance) <= NEAR_SECONDS
    inside = detected[(detected >= sample[0]) & (detected <= sample[-1])]
    annotated = np.abs(_distance_to_nearest(inside, sample)) / rate <= NEAR_SECONDS
    if near.mean() < MIN_ANNOTATED or not len(inside) or annotated.mean() < MIN_DETECTED:
        return False
    return bool(abs(float(np.median(distance[near]))) <= MOST_SHIFTED)


def _distance_to_nearest(positions: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the signed distance from each position to the nearest of the others, which are in order."""
    after = np.searchsorted(others, positions)
    below = others[np.clip(after - 1, 0, len(others) - 1)] - positions
    above = others[np.clip(after, 0, len(others) - 1)] - positions
    return np.where(np.abs(below) < np.abs(above), below, above)
