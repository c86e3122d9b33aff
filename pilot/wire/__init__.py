"""Runs in every process: the messages of manager, agent and workers, and how they travel."""
