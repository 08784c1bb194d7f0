"""Noise and sharpness of real series, and how a result compares with its source. NumPy and SciPy only."""
