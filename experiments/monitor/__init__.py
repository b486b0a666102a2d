"""A ward's live monitor: signals in, scores, alerts and a page out, with the model that hospitals trained together."""
