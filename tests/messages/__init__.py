"""Error messages are part of the product: what was wrong, why, and what to write instead."""
