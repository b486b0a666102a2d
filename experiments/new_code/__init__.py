"""Plug-ins in packages of one's own: `wardround new` writes one, and `contract` checks it."""
