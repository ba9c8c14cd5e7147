"""Scopes: the chain, who is in it, and where it holds."""
