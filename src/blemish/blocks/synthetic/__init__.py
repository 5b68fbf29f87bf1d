"""Synthetic defects, procedural images and colour jitter."""
