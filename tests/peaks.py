"""The peak of memory of a process of its own, where the system says it."""

import subprocess
import sys
from pathlib import Path

from metaniche.ops.backend import native


def tells_peaks():
    """Whether the system says the peak of a process and lets it be set back, and native code runs, of which estimates are."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return "VmHWM:" in Path("/proc/self/status").read_text() and native() is not None
    except OSError:
        return False


def number_of(program):
    """What a Python program prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)
