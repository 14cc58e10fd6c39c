"""Programs that only judge: no threshold is set by looking at what is said of them."""
