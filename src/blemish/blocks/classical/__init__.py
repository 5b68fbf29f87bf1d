"""Classical image processing: filter banks and registration."""
