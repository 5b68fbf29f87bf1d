"""How an image was taken: the size of its pixels on the part."""
