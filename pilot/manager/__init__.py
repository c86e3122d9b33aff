"""Runs in the user's process: `PilotManager`, its thread, its journal and what it hands out."""
