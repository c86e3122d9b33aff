"""Circuits estimated, bundled and scheduled into the queues of real QPUs, on a virtual clock."""

from pilot_miniapps.qos_pipeline.app import QosPipeline

__all__ = ["QosPipeline"]
