"""Install a wheel into a fresh virtual environment and, from another folder, train and predict with it."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
SMALL = ["data.source.synthetic.n_patients=12", "trainer.max_epochs=2", "debug=fast"]


def run(*command: str | Path, cwd: Path) -> None:
    print("$", *(Path(c).name if Path(str(c)).is_absolute() else c for c in command), flush=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "METANICHE_ROOT")}
    subprocess.run([str(c) for c in command], cwd=cwd, env=environment, check=True)


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env/bin/python"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", CONSTRAINTS)
        run(*pip, "torch", cwd=folder)
        run(*pip, wheel.resolve(), cwd=folder)
        work = folder / "elsewhere"
        work.mkdir()
        run(folder / "env/bin/metaniche-train", "run_name=smoke", "keep_held_out=true", *SMALL, cwd=work)
        run(
            folder / "env/bin/metaniche-predict",
            "bundle=runs/smoke/bundle", "input=runs/smoke/held_out", "output=scored",
            cwd=work,
        )  # fmt: skip
        scored = sorted(p.name for p in (work / "scored").iterdir())
        if not any(n.endswith(".h5ad") for n in scored) or not any(n.endswith(".parquet") for n in scored):
            sys.exit(f"Expected scored .h5ad and .parquet files, found {scored}.")
        print(f"The wheel trains and predicts: {', '.join(scored[:4])} ...")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
