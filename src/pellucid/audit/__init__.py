"""Whole audits: cases in, signed and replayable records out."""
