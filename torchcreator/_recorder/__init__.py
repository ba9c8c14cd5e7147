"""Runs a constructor, logs what it does, replays any part of it; knows nothing of creators."""
