"""Functions of a rank, each the body of a test; those of one file share one world of ranks."""
