"""Tests with real gloo ranks."""
