"""Origin Quantum's HTTP API on this service, for the vendor's clients and for plain requests.

Two faces, one way through: ``machine.py`` has the routes of a pilot machine (``/task/realQuantum/run``, …),
``cloud.py`` those of the vendor's cloud (``/oqcs/task/…``)::

    body ─► bodies (bytes to JSON) ─► submissions (fields) ─► checker, checking (programs) ─► tasks (to the service)
    service ─► results (their forms) ─► replies

``codes`` has the vendor's numbers, ``chips`` says which QPU a ``ChipID`` is. The circuits themselves run like all
others of the service: the row of a task is on disk before it is acknowledged.
"""
