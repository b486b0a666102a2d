"""Checks before a federation: of this machine, a hospital's node, a coordinator's server, or a run.

Each check gives one line, `ok`, `warn` or `fail`, with what to do about it. They change nothing and send nothing but
requests that a server answers without a login.
"""
