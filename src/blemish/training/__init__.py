"""Training: the loop that runs a method's hooks, prepared images, checkpoints and logs."""

from blemish.training.loop import History, forget, learn, update_method

__all__ = ["History", "forget", "learn", "update_method"]
