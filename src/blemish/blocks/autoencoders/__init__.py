"""Autoencoder networks, and the structural similarity that they are trained and scored with."""
