"""Which symptoms are a right name for which fate of a run."""

BLOWN = ("loss-divergence", "learning-rate-too-high", "gradient-spike")
STUCK = ("loss-plateau",)
SLOW = ("learning-rate-too-low",)
FAST = ("learning-rate-too-high", "loss-oscillation", "loss-divergence", "loss-plateau")
SWINGS = ("loss-oscillation", "learning-rate-too-high", "loss-divergence")
