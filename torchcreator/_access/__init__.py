"""One variable's writes and reads, and how one value is made of several ranks'."""
