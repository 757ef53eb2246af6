"""Slow, independent replicas of the formulas, written from the papers."""
