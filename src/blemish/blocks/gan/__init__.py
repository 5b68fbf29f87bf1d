"""Parts of generative adversarial networks: networks, losses, augmentation, latent search."""
