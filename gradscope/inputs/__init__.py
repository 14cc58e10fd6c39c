"""Model files and data files -> a model and batches."""
