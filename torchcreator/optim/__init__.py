"""Constraints, carried out after every optimizer's every step."""

from torchcreator.optim._hook import apply_constraints, install

__all__ = ["apply_constraints", "install"]

install()
