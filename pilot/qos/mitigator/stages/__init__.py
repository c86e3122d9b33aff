"""The mitigator's stages, each a plugin of the group ``pilot.qos_stages``; `stage` has their contract."""
