"""The parts of the page as its templates need them: a file a part, from plain data to text."""
