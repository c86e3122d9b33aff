"""Runs in the tests of plugins and programs: contract suites to subclass (they need pytest), and parts in memory."""
