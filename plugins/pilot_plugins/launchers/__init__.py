"""Run in the user's process: how placeholder jobs are started, watched and ended."""
