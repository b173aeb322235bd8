"""Heads that others published: which are known, where their files lie, and how they become models."""
