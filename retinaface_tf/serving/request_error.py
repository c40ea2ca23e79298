"""A request that the server refuses, and how gRPC and REST name the reason."""

from __future__ import annotations

from retinaface_tf.errors import first_line

# gRPC status code -> HTTP status, as TF-Serving maps them.
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 412,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
}


class RequestError(Exception):
    """Ends a request with one sentence for the caller and a gRPC status code.

    Attributes:
        http: the HTTP status, that of the code unless another one says more.
    """

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT", http: int = 0):
        super().__init__(message)
        self.code, self.http = code, http or HTTP_STATUS[code]

    @classmethod
    def of(cls, error: Exception) -> RequestError:
        """What the caller gets for an error of the model: INTERNAL with its first line."""
        return cls(f"The model failed: {first_line(error)[:300]}", "INTERNAL")
