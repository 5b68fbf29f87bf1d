"""Building blocks of methods, in families; the modules beside the families are used across them.

They work on tensors and know no method, data set or file.
"""
