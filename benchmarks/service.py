"""The service: submissions a second, kills, a store with a million tasks, made-up requests, policies.

python benchmarks/service.py load
python benchmarks/service.py kill --store sqlite|postgresql
python benchmarks/service.py store --rows 1000000 [--store postgresql]
python benchmarks/service.py fuzz --minutes 10
python benchmarks/service.py policies
python benchmarks/service.py origin --bodies 5000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _service_fuzz
import _service_kill
import _service_load
import _service_origin
import _service_policies
import _service_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, module in (
        ("load", _service_load),
        ("kill", _service_kill),
        ("store", _service_store),
        ("fuzz", _service_fuzz),
        ("policies", _service_policies),
        ("origin", _service_origin),
    ):
        command = commands.add_parser(
            name, description=module.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.add_flags(command)
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
        command.set_defaults(measure=module.measure)
    options = parser.parse_args()
    options.measure(options)


if __name__ == "__main__":
    main()
