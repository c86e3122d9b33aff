"""Run in a worker that has the QPU; the user's process only makes them, to check addresses."""
