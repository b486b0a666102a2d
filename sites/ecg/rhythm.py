"""Irregular rhythm, as in atrial fibrillation, from RR intervals alone.

A beat is premature only against a regular rhythm, so a model of beats is less reliable where there is none. The rhythm
around a beat is irregular if the coefficient of sample entropy of 64 RR intervals exceeds a threshold (Lake, Moorman
2011, Am J Physiol Heart Circ Physiol 300(1):H319-H325). Intervals of a few lengths, as in bigeminy or with single
ectopic beats, repeat themselves and have a low entropy; those of atrial fibrillation do not.

Share of the annotated beats of the MIT-BIH Arrhythmia Database that are flagged, by recording
(`python -m experiments.studies.irregular_rhythm data/mitdb`):

    atrial fibrillation most of the time    203 1.00, 210 .96, 219 .78, 221 1.00
    atrial fibrillation part of the time    201 .66, 202 .33, 217 .14, 222 .61 (with atrial flutter)
    none, 40 recordings, mean .036          200 .63, 208 .36, 228 .27, 106 .06, 214 .05; the other 35 at most .04

The sensitivity in a recording without sinus rhythm is that share, and the specificity in a recording without atrial
fibrillation is 1 minus it: .964 over the 40. False alarms occur in recordings with many ventricular beats in
changing patterns. By beat, against the rhythm marks of 100, 113, 202 and 219, the sensitivity for atrial
fibrillation is .831 (2,626 beats) and the specificity .973 (5,616); the copy of the database lacks the names of the
others' marks. The threshold was chosen on the same recordings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

INTERVALS = 64
"""RR intervals around a beat; a shorter recording is judged as a whole."""
MIN_INTERVALS = 16
"""Fewer intervals are not judged, and count as regular."""
TOLERANCE = 0.03
"""Seconds within which two intervals are alike."""
THRESHOLD = -1.0
"""Coefficient of sample entropy (natural logarithm, seconds) above which the rhythm is irregular."""
_BLOCK = 128

Floats = npt.NDArray[np.float64]


def find_irregular_rhythm(seconds: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return for each beat whether the rhythm around it is irregular.

    Args:
        seconds: `(beats,)`, times of all beats of a recording, in order.
    """
    intervals = np.diff(np.asarray(seconds, dtype=np.float64))
    count = len(intervals)
    if count < MIN_INTERVALS:
        return np.zeros(len(seconds), dtype=np.bool_)
    width = min(INTERVALS, count)
    entropy = sample_entropy_coefficient(np.lib.stride_tricks.sliding_window_view(intervals, width))
    first = np.clip(np.arange(len(seconds)) - width // 2, 0, count - width)
    return np.asarray(entropy[first] > THRESHOLD)


def sample_entropy_coefficient(windows: Floats) -> Floats:
    """Return the coefficient of sample entropy of RR intervals `(windows, intervals)` in seconds.

    `-ln(A / B) + ln(2 r) - ln(mean RR)`, where B counts the pairs of intervals that are alike within r, and A those
    whose next intervals are alike too (Lake, Moorman 2011, m = 1). Without such a pair A counts as 1/2.
    """
    size = windows.shape[1] - 1
    upper = np.triu(np.ones((size, size), dtype=np.bool_), 1)
    out = np.empty(len(windows))
    for start in range(0, len(windows), _BLOCK):
        part = windows[start : start + _BLOCK]
        alike = np.abs(part[:, :, None] - part[:, None, :]) < TOLERANCE
        pairs = alike[:, :-1, :-1] & upper
        both = np.maximum((pairs & alike[:, 1:, 1:]).sum((1, 2)), 0.5)
        ratio = both / np.maximum(pairs.sum((1, 2)), 1)
        out[start : start + _BLOCK] = np.log(2 * TOLERANCE) - np.log(ratio) - np.log(part.mean(1))
    return out
