"""Runs in every process: what manager, agent and workers send each other, and how."""
