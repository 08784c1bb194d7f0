"""HR → LR: draw the parameters, then apply them. Tensors in, tensors out."""
