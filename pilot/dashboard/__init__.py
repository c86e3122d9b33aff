"""A page that shows a session while it runs, and afterwards: ``pilot.dashboard.open(manager).url``.

The way of what is shown::

    manager.subscribe, or the journal ─► Source ─► TaskIndex ─► page (NiceGUI) ─► browser

The server counts, filters and sorts; the browser gets one page of the table and what changes in it.
"""

from pilot.dashboard.dashboards import Dashboard, open

__all__ = ["Dashboard", "open"]
