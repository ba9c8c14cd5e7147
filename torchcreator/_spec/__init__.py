"""What a variable is, what it was declared to be, and where that is kept; knows no scopes."""
