"""Running experiments: the command line, engines, baselines, evaluation of privacy, and reports."""
