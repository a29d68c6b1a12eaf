"""Samples, targets and a network in, a Bundle out; the only room that knows Lightning's loop.

May import all rooms up to predict.
"""
