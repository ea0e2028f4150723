"""A finished run as the ``RunSummary`` that ``runs/<run>.json`` and the report hold."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tonearm import __version__
from tonearm.distributed.batch import Outcome
from tonearm.library import stores
from tonearm.library.report import RunSummary
from tonearm.library.runs import Destination
from tonearm.settings import TagSettings
