"""Signed messages as files of text, so that they survive a mail: DSSE's JSON envelope.

https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
"""

from __future__ import annotations

import base64
import json

from protos import update_pb2 as pb

_MOST = 16 << 20
"""Bytes that such a file may have. A campaign of 16,384 members has about one and a half million."""


def dump(envelope: pb.Signed) -> str:
    """Write a signed message as JSON."""
    content = {
        "payloadType": envelope.purpose,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [{"sig": base64.b64encode(envelope.signature).decode()}],
    }
    return json.dumps(content, indent=1) + "\n"


def load(content: bytes) -> pb.Signed:
    """Read a signed message from JSON. Nothing of it is checked but its form.

    Raises:
        ValueError: It has another form.

    """
    if len(content) > _MOST:
        raise ValueError("too large")
    try:
        found = json.loads(content)
        (signature,) = found["signatures"]
        envelope = pb.Signed(
            purpose=found["payloadType"],
            payload=base64.b64decode(found["payload"], validate=True),
            signature=base64.b64decode(signature["sig"], validate=True),
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not in form ({type(error).__name__})") from error
    if set(found) != {"payloadType", "payload", "signatures"} or set(signature) != {"sig"}:
        raise ValueError("holds more than an envelope")
    return envelope
