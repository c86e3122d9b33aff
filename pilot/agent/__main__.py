"""``python -m pilot.agent SESSION PILOT MARK``."""

from pilot.agent.agent import main

main()
