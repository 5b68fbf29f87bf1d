"""Memory banks of normal patches: coreset selection, nearest-neighbour search, contrastive similarity."""
