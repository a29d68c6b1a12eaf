"""Run a verb as a user does: another process, another folder, a tiny synthetic cohort."""

import os
import subprocess
import sys

TINY = (
    "data.source.synthetic.n_patients=12", "data.source.synthetic.n_cells=250", "data.source.synthetic.max_samples=1",
    "data.sampling.windows=1", "data.sampling.window_cells=64", "trainer.max_epochs=2",
)  # fmt: skip


def command(verb, *overrides):
    return [sys.executable, "-m", f"metaniche.cli.{verb}", *overrides]


def environment(folder):
    return {**os.environ, "METANICHE_ROOT": str(folder), "OMP_NUM_THREADS": "1"}


def run(verb, folder, *overrides):
    """(exit status, everything it said)."""
    done = subprocess.run(
        command(verb, *overrides), cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr
