"""What a client asks of the deadlines."""

import math

from msgspec import Struct

from hpp_middleware.errors import RequestError

__all__ = ["Deadlines"]


class Deadlines(Struct, frozen=True, kw_only=True, gc=False):
    """
    Deadlines of one request, in seconds; None leaves a provider's setting, and so does one above it.

    Attributes:
        connect: To an open connection.
        first_byte: From the request to a stream's first event, or to the first byte of another answer.
        idle: How long the provider may be silent after that.
        total: The whole request, however often it is tried.
    Raises:
        RequestError: 400: one of them is not above 0.
    """

    connect: float | None = None
    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            seconds = getattr(self, name)
            if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
                raise RequestError(f"{name} must be a number of seconds above 0.", param=name)
