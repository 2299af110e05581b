"""What the tests share: where the repository and, if there are any, the real corpora are."""
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))   # so that a test can say `from conftest import REAL`


def _real():
    "The folder of real corpora: $XLT_DATA, or shared/data beside the repository, or None."
    places = [Path(os.environ["XLT_DATA"])] if os.environ.get("XLT_DATA") else [ROOT.parent / "shared" / "data"]
    return next((p for p in places if (p / "STATS.tsv").is_file()), None)


REAL = _real()
needs_real = pytest.mark.skipif(REAL is None, reason="no folder of real corpora: set XLT_DATA to one")
