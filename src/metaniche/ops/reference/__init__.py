"""Plain implementations on numpy, scipy and torch: the truth that every other backend is tested against."""
