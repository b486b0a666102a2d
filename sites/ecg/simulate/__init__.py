"""A generator of SYNTHETIC ECG hospitals."""
