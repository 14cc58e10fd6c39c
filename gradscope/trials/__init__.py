"""Two models and data -> Trial: short paired runs, their scores and the verdict."""
