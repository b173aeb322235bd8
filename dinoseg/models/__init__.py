"""Models: tensors in, tensors out."""
