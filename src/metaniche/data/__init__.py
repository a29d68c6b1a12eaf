"""CellGraphs and tables in, batches out: cohorts, tasks, splits, features, sampling, synthetic tumours.

May import errors, io, ops, metrics and graph.
"""
