"""Arithmetic on a Profile that several symptoms and renderers share; NumPy at most."""
