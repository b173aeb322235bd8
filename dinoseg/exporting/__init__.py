"""Trained segmenters as files that other engines run, each proved against the run it comes from."""
