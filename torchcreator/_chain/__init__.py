"""The heart: `variable`, the creators it passes, the end that makes the parameter."""
