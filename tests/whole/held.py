"""A classifier that lets all texts pass, but holds one while there is a file hold/STAGE in its working directory.

So a test can stop a run where it reads its data, and knows by hold/STAGE.held that it has.
"""

import time
from pathlib import Path


def hold(text: str, stage: str) -> bool:
    """Return when there is no such file any more."""
    file = Path("hold") / stage
    while file.exists():
        file.with_suffix(".held").touch()
        time.sleep(0.02)
    return True
