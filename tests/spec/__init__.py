"""What a variable was declared to be, and how it survives."""
