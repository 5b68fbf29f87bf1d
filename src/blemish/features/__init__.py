"""Frozen pretrained networks that compute feature maps, and their weights."""
