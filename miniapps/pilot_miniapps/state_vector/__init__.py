"""The mini-app `state-vector`: `app` is what runs, `kernel` the distributed state vector."""
