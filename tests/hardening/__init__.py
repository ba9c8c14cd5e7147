"""The library under strain: many steps, other settings of Python, an installed wheel."""
