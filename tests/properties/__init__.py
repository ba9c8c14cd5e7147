"""Laws, tried on whatever Hypothesis comes up with."""
