"""Runs in the placeholder job: the agent, and one process on each further node."""
