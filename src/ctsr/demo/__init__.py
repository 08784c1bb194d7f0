"""The demonstration: every step of the workflow on the synthetic exam set."""
