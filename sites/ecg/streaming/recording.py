"""Beats of an annotated recording, each described by earlier beats only: the option `causal` of data sets of beats."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from sites.ecg import features
from sites.ecg.annotations import AAMI_CLASSES, UNCLASSED
from sites.ecg.beats import BEFORE, RATE, SAMPLES, Beats, choose_leads, cut_beats
from sites.ecg.recordings import Recording
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.whole import cut_causal_beats

VERSION = 1
"""Part of the cache's key; increase it when the prepared beats change."""


def cut_recording(
    recording: Recording, leads: int, shape: int, codes: Collection[str]
) -> tuple[Beats, npt.NDArray[np.float32]]:
    """Return the beats of a recording, with a template for each, and the measures of the waves of the first leads.

    Args:
        recording: its signal and annotations.
        leads: the largest number of leads to use.
        shape: number of leads whose waves are measured; a lead that is not there gives zeros.
        codes: codes of the annotations that are beats.
    """
    chosen = choose_leads(recording, leads)
    signal, missing = hold_gaps(recording.signal[:, chosen])
    marked = np.isin(recording.symbol, list(codes))
    sample, symbol = recording.sample[marked], recording.symbol[marked]
    width = len(features.beat_feature_names(shape))
    if len(sample) < 3:
        return cut_beats(recording, "window", leads, codes), np.zeros((0, width), np.float32)
    cut = cut_causal_beats(signal, recording.rate, sample / recording.rate, min(shape, len(chosen)))
    measured = np.zeros((len(sample), width), dtype=np.float32)
    measured[:, : cut.shape.shape[1]] = cut.shape
    sums = np.concatenate([[0], np.cumsum(missing)])
    ends = [(cut.seconds + (offset - BEFORE) / RATE) * recording.rate for offset in (0, SAMPLES)]
    first, last = (np.clip(end.astype(np.int64), 0, len(missing)) for end in ends)
    keep = sums[last] == sums[first]
    excluded = dict(recording.dropped)
    if not keep.all():
        excluded["beats with missing samples"] = int((~keep).sum())
    label = np.asarray([AAMI_CLASSES.get(mark, UNCLASSED) for mark in symbol[keep]], dtype="<U1")
    beats = Beats(cut.x[keep], cut.template[keep], cut.features[keep], label, symbol[keep], sample[keep], excluded)
    return beats, measured[keep]
