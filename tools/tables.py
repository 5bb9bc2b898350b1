#!/usr/bin/env python3
"""The same as `netspec tables`; runs from any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netspec.cli.main import tool  # noqa: E402 - the path comes first

tool("tables")
