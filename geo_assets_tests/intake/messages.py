"""Messages as a queue would deliver them."""

import json
import time
import uuid

from geo_assets.ledger.messages import RawMessage


def raw(body: bytes | dict, **changes) -> RawMessage:
    """A message as a queue would deliver it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    defaults = {
        "source": "test",
        "source_id": str(uuid.uuid4()),
        "body": data,
        "size_bytes": len(data),
        "correlation_id": "c",
    }
    return RawMessage(**{**defaults, **changes})


def hello(n: int = 1, message: str | None = None) -> dict:
    return {"job_type": "hello_world", "parameters": {"n": n, "message": message or f"m{time.monotonic_ns()}"}}
