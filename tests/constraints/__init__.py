"""Tests of the constraints as functions of tensors."""
