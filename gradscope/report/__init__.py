"""Report, its files, the file of a watched run, and the comparison of two reports."""
