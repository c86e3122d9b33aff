"""``python -m pilot.cli``."""

from pilot.cli.main import main

raise SystemExit(main())
