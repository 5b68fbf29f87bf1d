"""Autoencoder networks and the structural similarity they are trained and scored with."""
