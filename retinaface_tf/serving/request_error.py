"""A request that the server will not answer, and how gRPC and REST call the reason."""

from __future__ import annotations

# gRPC status code -> HTTP status, as TF-Serving maps them.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 412,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
}


class RequestError(Exception):
    """Ends a request with a gRPC status code and one sentence for the caller."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
