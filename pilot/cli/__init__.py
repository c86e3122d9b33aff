"""Runs in the user's shell: the command `pilot`."""
