"""Parts that several methods share; they know tensors, never a method, a data set or a file."""
