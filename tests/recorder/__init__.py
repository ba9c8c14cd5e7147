"""The recorder: what it logs, and what its replays give back."""
