"""What each method against errors gains on each QPU: deviations from the exact values without noise.

`app` has the mini-app, `chains` its circuits, `comparison` what the deviations say, `plots` the figure.
"""

from pilot_miniapps.error_mitigation.app import ErrorMitigation

__all__ = ["ErrorMitigation"]
