"""Resamples, intervals and comparisons of rows that were tested on the same images."""
