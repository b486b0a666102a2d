"""Questions and answers: the command line, the engines, the baselines, the report."""
