"""The HTML page in a real browser: what is seen, what is pressed, and what follows."""
