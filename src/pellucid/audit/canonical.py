"""Canonical JSON [RFC 8785]: the bytes that are hashed and signed."""

import math
from typing import Any

from pellucid.errors import InputError, MissingPackageError


def finite(value: Any) -> Any:
    """Plain JSON values with NaN and infinity replaced by None, which JSON can hold, and tuples by lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def canonical(value: Any) -> bytes:
    r"""The one byte string that RFC 8785 gives to plain JSON values.

    Raises InputError where JSON has no such value (an integer beyond 2^53, a lone surrogate), MissingPackageError
    without the package ``rfc8785``.

    >>> canonical({"b": 1.0, "a": [1e-7, "\N{EURO SIGN}"]}).decode()
    '{"a":[1e-7,"€"],"b":1}'
    """
    try:
        import rfc8785
    except ImportError:
        raise MissingPackageError("rfc8785", "pip install 'pellucid[audit]'") from None
    try:
        return rfc8785.dumps(value)
    except ValueError as error:
        raise InputError(f"this value cannot be written as canonical JSON: {error}.") from None
