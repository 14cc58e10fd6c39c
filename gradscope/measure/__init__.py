"""A model and batches -> Profile: what passes forward and which gradient comes back."""
