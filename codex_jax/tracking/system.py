"""What this process took of the machine."""

import resource
import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """Return the most resident memory this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent held before exec, too.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
