"""Tests of constraints, carried out after steps."""
