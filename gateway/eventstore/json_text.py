"""Python values → JSON text, as `json.dumps` writes it.

`json.dumps` makes an encoder anew for every text, and so does each `encode` of a `JSONEncoder`, which takes longer than
the text does; here it is made once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def writer(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """A function that writes as `json.dumps(value, ensure_ascii=…)` does, for values without cycles."""
    return writer_of(json.JSONEncoder(ensure_ascii=ensure_ascii))


def writer_of(settings: json.JSONEncoder) -> Callable[[Any], str]:
    """A function that writes as this encoder's `encode` does, for values without cycles that are no mere text.

    The encoder has no indentation, nor does it sort or skip keys.
    """
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return settings.encode
    text = encoder.encode_basestring_ascii if settings.ensure_ascii else encoder.encode_basestring
    item, key = settings.item_separator, settings.key_separator
    pieces = make(None, settings.default, text, None, key, item, False, False, settings.allow_nan)

    def write(value: Any) -> str:  # noqa: ANN401  any JSON value
        return "".join(pieces(value, 0))

    return write


as_text = writer(ensure_ascii=True)
as_unicode = writer(ensure_ascii=False)
