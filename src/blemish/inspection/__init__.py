"""The verdict on an image: its regions, its heat map and its display in notebooks."""
