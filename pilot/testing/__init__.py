"""Runs in the tests of plugins: contract suites to subclass. Needs pytest."""
