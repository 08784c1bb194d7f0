"""Training with L1: one readable loop, resumable to the bit."""
