"""Trackers: where a training is shown while it runs."""
