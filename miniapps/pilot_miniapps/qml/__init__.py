"""Quantum machine learning with images: the mini-apps `qml-compression` and `qml-classifier`, and what they share."""
