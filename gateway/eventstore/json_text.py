"""Python values → the JSON text that projections keep, as `json.dumps` writes it.

`json.dumps` makes an encoder anew for every text, which takes longer than the text does; here it is made once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def writer(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """A function that writes as `json.dumps(value, ensure_ascii=…)` does, for values without cycles."""
    settings = json.JSONEncoder(ensure_ascii=ensure_ascii)
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return settings.encode
    text = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    pieces = make(None, settings.default, text, None, ": ", ", ", False, False, True)

    def write(value: Any) -> str:  # noqa: ANN401  any JSON value
        return "".join(pieces(value, 0))

    return write


as_text = writer(ensure_ascii=True)
as_unicode = writer(ensure_ascii=False)
