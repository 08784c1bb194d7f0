"""Quantization: networks whose trunk computes in 8-bit integers, how they are made, stored and accepted."""
