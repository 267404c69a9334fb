"""The cases of bad_input.py: one module per kind of input."""
