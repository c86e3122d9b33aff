"""Policies for QPUs beside each other, on a virtual clock: on QPUs of one's own, and in the queues of others."""

from pilot_miniapps.qos_scheduler.app import QosScheduler

__all__ = ["QosScheduler"]
