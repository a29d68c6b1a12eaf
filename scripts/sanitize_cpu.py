"""The native CPU backend under the address and undefined-behaviour sanitizers: built apart, then the tests of every op.

python scripts/sanitize_cpu.py     needs the dev environment and g++ with libasan; without them it says so and is done
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from simt.machine import library  # noqa: E402

BUILT = ROOT / "build" / "sanitized"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
# The installed package is editable and would be found first. What a sanitizer says goes past Python and must not be captured.
TESTS = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
import metaniche, pytest
from metaniche.ops.backend import native_status
assert metaniche.__file__.startswith({str(BUILT)!r}), metaniche.__file__
print("Under sanitizers:", native_status(), flush=True)
sys.exit(pytest.main([*sys.argv[1:], "-q", "--capture=sys", "-p", "no:cacheprovider", "-k", "not reference"]))
"""


def main() -> None:
    libraries = [found for name in ("libasan.so", "libstdc++.so") if (found := library(name))]
    if len(libraries) < 2:
        print("Not run: there is no g++ with libasan on this machine.")
        return
    # The compiler and the flags that the build takes from the environment.
    build = {**os.environ, "CXX": "g++", "CXXFLAGS": FLAGS}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--upgrade", "--no-deps"]
    own = [
        "--no-build-isolation",
        "--target",
        str(BUILT),
        "-C",
        f"build-dir={BUILT}-build",
        "-C",
        "install.strip=false",
    ]
    subprocess.run([*pip, *own, str(ROOT)], check=True, env=build)
    run = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:verify_asan_link_order=0",
        "PYTHONPATH": str(BUILT),
        "OMP_NUM_THREADS": "2",
    }
    tests = sorted(str(path) for path in (ROOT / "tests" / "ops").glob("test_*.py"))
    sys.exit(subprocess.run([sys.executable, "-c", TESTS, *tests], env=run, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
