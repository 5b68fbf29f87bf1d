"""How a method learns: the one loop, what it reads, where it stops, what is kept of unfinished training."""

from blemish.training.loop import History, forget, learn, learn_on

__all__ = ["History", "forget", "learn", "learn_on"]
