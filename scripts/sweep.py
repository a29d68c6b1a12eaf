"""Thin runner of `metaniche-sweep` for clusters: python scripts/sweep.py experiment=crc_codex judge=false."""

from metaniche.cli.sweep import main

if __name__ == "__main__":
    main()
