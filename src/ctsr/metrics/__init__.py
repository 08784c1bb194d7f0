"""Image metrics: tensors in, numbers out."""
