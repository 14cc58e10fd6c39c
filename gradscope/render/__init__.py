"""Renderers: they take a report as plain JSON data and import neither TensorFlow nor records."""
