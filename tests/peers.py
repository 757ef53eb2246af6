"""Peer libraries, imported without the warnings that their own imports give; in tests every warning is an error."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import captum.attr as captum
    import shap

__all__ = ["captum", "shap"]
