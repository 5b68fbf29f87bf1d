"""The verdict on an image: its regions, its colours, how it shows itself."""
