"""Runs in the user's process, in the manager's thread, or in a simulator: decisions without clock, threads or I/O."""
