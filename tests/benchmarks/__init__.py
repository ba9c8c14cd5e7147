"""The benchmarks as a program: what they measure is not asserted anywhere."""
