"""What this process took of the machine, and what the machine is at."""

import resource
import sys
from pathlib import Path

import psutil


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


class Machine:
    """Reads the machine and this process; shares of the CPU are of the time since the last reading."""

    def __init__(self, workdir: Path) -> None:
        self._workdir, self._process = workdir, psutil.Process()
        self._process.cpu_percent()
        psutil.cpu_percent()

    def read(self) -> dict[str, float]:
        """Return the figures by name; see "What is measured" in docs/monitoring.md."""
        memory = psutil.virtual_memory()
        return {
            "process_cpu_percent": self._process.cpu_percent(),
            "process_rss_bytes": self._process.memory_info().rss,
            "cpu_percent": psutil.cpu_percent(),
            "memory_used_bytes": memory.total - memory.available,
            "memory_percent": memory.percent,
            "disk_free_bytes": psutil.disk_usage(str(self._workdir)).free,
            "load_1m": psutil.getloadavg()[0],
        }
