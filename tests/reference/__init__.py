"""Slow, independent definitions that the tests compare with."""
