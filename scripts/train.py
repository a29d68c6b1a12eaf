"""Thin runner of `metaniche-train` for clusters: python scripts/train.py experiment=crc_codex trainer=slurm."""

from metaniche.cli.train import main

if __name__ == "__main__":
    main()
