"""Logs as lines of JSON, one an event, for programs that collect logs."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

_TOKEN = re.compile(r"pilot_[0-9a-f]{16}_[A-Za-z0-9_-]+")


class JsonLines(logging.Formatter):
    """Each record as a JSON object: ``time``, ``level``, ``logger``, ``message``, and ``error`` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {  # a token in an address is not written
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _TOKEN.sub("pilot_…", record.getMessage()),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def begin(level: str) -> None:
    """Write the logs of this process to standard error from now on, from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("qiskit", "stevedore"):  # a line for each step of each compilation
        logging.getLogger(name).setLevel(logging.WARNING)
