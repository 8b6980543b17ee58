"""`bench` holds the judge that the random uploads and these tests share. It lies beside `tests`, not installed."""

from __future__ import annotations

import sys
from pathlib import Path

# Behind everything else: `fastmpu` stays the installed one.
sys.path.append(str(Path(__file__).parents[2]))
