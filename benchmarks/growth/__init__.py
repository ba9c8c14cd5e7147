"""How cost grows: with creators, parameters, bytes and ranks. ``python -m benchmarks.growth``."""
