"""Parts that methods share, by family; the modules beside the families serve all of them.

They know tensors, never a method, a data set or a file.
"""
