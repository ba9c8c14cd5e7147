"""Benchmarks: every figure this project states is printed by a script in here."""
