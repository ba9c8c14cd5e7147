"""The ``inspect`` command: what a model consists of, before it exists."""
