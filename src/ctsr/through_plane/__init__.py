"""Between slices: thin slices from thick ones, by networks that learn it in axial images."""
