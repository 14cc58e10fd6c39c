"""A model -> an independent copy, or one that is rebuilt with other layers."""
