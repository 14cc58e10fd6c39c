"""A training run -> its timeline -> a Report."""
