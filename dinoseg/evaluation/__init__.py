"""Figures of a segmenter: one confusion matrix at native size, everything else derived from it."""
