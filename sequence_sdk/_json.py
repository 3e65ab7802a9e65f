"""What JSON can hold, asked before it is sent: its author is told where the value stands in the code, and nobody else later."""

import json
from typing import Any


def check_json(what: str, value: Any) -> None:
    """Refuse a value that no JSON can hold.

    Raises:
        TypeError: it is such a value; the text begins with ``what`` it is.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} is not JSON: {error}") from None
