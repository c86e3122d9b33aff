"""Runs in the user's process: `PilotManager`, its thread, its journal and the handles of tasks and pilots."""
