"""Installs metaniche and the peers of `make bench` into the Python that runs this, at the constrained versions.

A peer that cannot be installed is named and left out; the benchmarks then leave out its solvers.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# squidpy's spatialdata reads object stores through botocore, which refuses dateutil 3 and later.
LOOSE = ("python-dateutil",)


def main() -> None:
    peers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["peers"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pin for pin in pins if pin.split("==")[0] not in LOOSE) + "\n")
        constraints.flush()
        need = ["torch"], ["--config-settings=build-dir=build/peers", "--editable", str(ROOT)]
        for packages in need:
            if not installed(constraints.name, packages):
                sys.exit(f"pip could not install {packages[-1]}.")
        if not installed(constraints.name, peers):
            for peer in peers:
                if not installed(constraints.name, [peer]):
                    print(f"{peer} cannot be installed and is left out.")


def installed(constraints: str, packages: list[str]) -> bool:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return subprocess.run([*pip, "--constraint", constraints, *packages], check=False).returncode == 0


if __name__ == "__main__":
    main()
