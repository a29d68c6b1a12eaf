"""Thin runner of `metaniche-predict` for clusters: python scripts/predict.py bundle=bundle input=slides output=scored."""

from metaniche.cli.predict import main

if __name__ == "__main__":
    main()
