"""ECG recordings: leads, filtering, beats, R peaks, hand-crafted features."""
