"""Every exception this package raises on purpose, and what any exception says.

::

    VirtualKubeletError
    ├── ConfigurationError            what the user gave us is wrong; says what to do about it
    │   ├── KubeconfigError           a kubeconfig or in-cluster configuration
    │   └── ProviderConfigError       an unknown provider, or one that refuses its configuration
    ├── ProviderError                 raised by providers; the controllers act on the kind
    │   ├── NotFoundError             the backend does not know the pod or container
    │   ├── PermanentError            retrying cannot help: the pod fails with ``reason``
    │   │   └── InvalidInputError     the pod asks for something that can never work here
    │   ├── TransientError            try again, not before ``retry_after``
    │   │   └── MountError            volumes of a pod that cannot be had just now
    │   └── UnsupportedError          the provider does not offer this capability (HTTP 501)
    ├── ApiError                      the API server answered with a ``Status`` that is not Success
    │   ├── BadRequestError           400
    │   ├── UnauthorizedError         401
    │   ├── ForbiddenError            403
    │   ├── ApiNotFoundError          404
    │   ├── ConflictError             409
    │   │   └── AlreadyExistsError    409, reason AlreadyExists
    │   ├── GoneError                 410: a resourceVersion or continue token has expired
    │   ├── InvalidObjectError        422
    │   ├── TooManyRequestsError      429
    │   └── ServerError               5xx
    ├── ApiConnectionError            the API server could not be reached, or broke off
    │   ├── ApiTimeoutError           it did not answer in time
    │   └── CredentialsError          our credentials cannot be had just now; also a KubeconfigError
    ├── CertificateRefusedError       a signer denied or failed the certificate that the node asked for
    ├── StartupTimeoutError           the node was not Ready in time
    ├── ProtocolError                 a peer broke the rules of a wire protocol
    │   ├── SpdyError                 of SPDY/3.1: the session ends with a GOAWAY
    │   └── WebSocketError            of WebSocket: the connection ends with a Close frame
    └── StreamClosedError             a stream of a session takes no more data

An exception that a provider raises and that is none of these counts as transient: it is retried with back-off and
never taken as "the pod is gone".
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AlreadyExistsError",
    "ApiConnectionError",
    "ApiError",
    "ApiNotFoundError",
    "ApiTimeoutError",
    "BadRequestError",
    "CertificateRefusedError",
    "ConfigurationError",
    "ConflictError",
    "CredentialsError",
    "ForbiddenError",
    "GoneError",
    "InvalidInputError",
    "InvalidObjectError",
    "KubeconfigError",
    "MountError",
    "NotFoundError",
    "PermanentError",
    "ProtocolError",
    "ProviderConfigError",
    "ProviderError",
    "ServerError",
    "SpdyError",
    "StartupTimeoutError",
    "StreamClosedError",
    "TooManyRequestsError",
    "TransientError",
    "UnauthorizedError",
    "UnsupportedError",
    "VirtualKubeletError",
    "WebSocketError",
    "text_of",
]


def text_of(error: BaseException) -> str:
    """What an exception says; its kind, if that is nothing."""
    return str(error) or type(error).__name__


class VirtualKubeletError(Exception):
    """The root: ``except VirtualKubeletError`` catches all that this package raises on purpose."""


class ConfigurationError(VirtualKubeletError):
    """What the user configured cannot work. ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class KubeconfigError(ConfigurationError):
    """A kubeconfig (or the in-cluster configuration) is missing, malformed or refers to something missing."""


class ProviderConfigError(ConfigurationError):
    """The provider is unknown, cannot be imported, or refuses its configuration."""


class ProviderError(VirtualKubeletError):
    """What a provider raises. Subclasses tell the controllers what to do."""


class NotFoundError(ProviderError):
    """The backend does not know the pod or container."""


class PermanentError(ProviderError):
    """Retrying cannot help: the pod ends as Failed with ``reason`` (CamelCase) and this message."""

    def __init__(self, message: str, *, reason: str = "ProviderFailed") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidInputError(PermanentError):
    """The pod asks for something that can never work with this provider."""

    def __init__(self, message: str, *, reason: str = "InvalidInput") -> None:
        super().__init__(message, reason=reason)


class TransientError(ProviderError):
    """Worth another try; ``retry_after`` (seconds), if given, is the least time to wait before it."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MountError(TransientError):
    """Volumes of a pod that cannot be set up now, such as for a ConfigMap that is not there.

    Attributes:
        failures: each volume's name, and why.
        reason: of the events that say so.
        messages: of those events, one a volume, as the kubelet's.
    """

    reason = "FailedMount"

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        self.messages = tuple(f'MountVolume.SetUp failed for volume "{name}" : {why}' for name, why in self.failures)
        super().__init__("; ".join(self.messages))


class UnsupportedError(ProviderError):
    """The provider does not offer this; over HTTP it is 501 with this sentence."""


class ApiError(VirtualKubeletError):
    """The API server refused a request.

    Attributes:
        code: HTTP status.
        reason: machine-readable reason of the ``Status`` body, such as ``NotFound``; empty if the body was none.
        message: the server's sentence. Bodies that are no ``Status`` are not quoted: they may hold anything.
        retry_after: seconds the server asked to wait (header or ``details.retryAfterSeconds``), or None.
        causes: ``(field, reason, message)`` of each cause the server named.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        causes: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        super().__init__(message or f"the API server answered {code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = tuple(causes)


class BadRequestError(ApiError):
    """400: the request itself is malformed."""


class UnauthorizedError(ApiError):
    """401: the credentials are missing, wrong or expired."""


class ForbiddenError(ApiError):
    """403: the credentials are good but do not allow this."""


class ApiNotFoundError(ApiError):
    """404: no such object, or no such resource."""


class ConflictError(ApiError):
    """409: a precondition (UID, resourceVersion) failed."""


class AlreadyExistsError(ConflictError):
    """409 with reason AlreadyExists: the name is taken."""


class GoneError(ApiError):
    """410: the resourceVersion or continue token has expired; list again."""


class InvalidObjectError(ApiError):
    """422: validation failed."""


class TooManyRequestsError(ApiError):
    """429: the server sheds load."""


class ServerError(ApiError):
    """5xx."""


class ApiConnectionError(VirtualKubeletError):
    """The API server could not be reached, TLS failed, or the connection broke."""


class ApiTimeoutError(ApiConnectionError):
    """The API server did not answer within the time-out."""


class CredentialsError(KubeconfigError, ApiConnectionError):
    """The token file or the exec plugin gives nothing just now, so no request can be made.

    At start it is a mistake in the configuration, with a hint; in a running node it is one more reason why the API server
    cannot be reached, and tried again like the others.
    """


class CertificateRefusedError(VirtualKubeletError):
    """A signer denied or failed the certificate signing request of this node."""


class StartupTimeoutError(VirtualKubeletError):
    """The node was not Ready within its start-up time-out; ``__cause__`` is what it last stumbled over, if anything."""


class ProtocolError(VirtualKubeletError):
    """A peer broke the rules of a wire protocol; ``status`` is the HTTP status to answer, where one can be sent."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class SpdyError(ProtocolError):
    """A peer broke the rules of SPDY/3.1, or crossed a limit; ``goaway`` is the status that its GOAWAY carries."""

    def __init__(self, message: str, *, goaway: int = 1) -> None:
        super().__init__(message)
        self.goaway = goaway


class WebSocketError(ProtocolError):
    """A peer broke the rules of WebSocket, or crossed a limit; ``code`` is the status code of our Close frame."""

    def __init__(self, message: str, *, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class StreamClosedError(VirtualKubeletError):
    """A stream takes no more data: we ended it, the peer reset it, or its session is over."""
