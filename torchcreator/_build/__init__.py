"""Whole models through the creators: may know the chain and the recorder, which do not meet."""
