"""Data sets: reading, checking, converting, loading."""
