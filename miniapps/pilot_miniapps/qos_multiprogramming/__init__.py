"""Circuits that share a QPU: what they lose, and how much more of it they use."""

from pilot_miniapps.qos_multiprogramming.app import QosMultiprogramming

__all__ = ["QosMultiprogramming"]
