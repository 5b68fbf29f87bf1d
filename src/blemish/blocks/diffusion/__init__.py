"""Diffusion models: noise schedule, time-conditioned U-Net, reconstruction in one step."""
