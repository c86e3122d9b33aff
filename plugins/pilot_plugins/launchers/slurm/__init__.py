"""Runs in the user's process: placeholder jobs through sbatch."""
