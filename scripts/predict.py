"""Thin runner of `metaniche-predict` for clusters: python scripts/predict.py experiment=crc_codex predicter=slurm."""

from metaniche.cli.predict import main

if __name__ == "__main__":
    main()
