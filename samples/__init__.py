"""Runnable stories, one a pathology."""
