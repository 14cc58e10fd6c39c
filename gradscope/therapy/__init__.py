"""A model and its Report -> Outcome: candidates, search, proof and refinement."""
