"""What torch keeps private, its mode stack and our hooks in it; knows nothing of variables."""
