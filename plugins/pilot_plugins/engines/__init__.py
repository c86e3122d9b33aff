"""Run in the placeholder job, in its agent: the clusters that start workers."""
