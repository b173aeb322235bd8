"""Training: one loop for both heads."""
