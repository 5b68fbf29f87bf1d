"""Normalising flows on feature maps."""
