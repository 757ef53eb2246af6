"""The formulas of the metrics as pure functions of NumPy arrays, one file for each family. No model is asked here."""
