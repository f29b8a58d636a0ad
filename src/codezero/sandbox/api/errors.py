"""Failures as the API tells them: a `Status` with code, reason, message and causes (the shape every Kubernetes client knows)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codezero.sandbox.api.documents import JsonObject


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class ApiError(Exception):
    """A refused request: HTTP status `code`, machine-readable `reason`, a sentence for people."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def status(self) -> JsonObject:
        """The body of the answer."""
        body: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str, **more: object) -> JsonObject:
    details: JsonObject = {"name": name, "group": group, "kind": plural, **more}
    return {key: value for key, value in details.items() if value}


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: nobody we know."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(message: str, *, plural: str = "", group: str = "", name: str = "") -> ApiError:
    """403: known, and not allowed."""
    return ApiError(403, "Forbidden", message, details=_details(plural, group, name))


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404: no object of that name."""
    return ApiError(
        404, "NotFound", f'{_qualified(plural, group)} "{name}" not found', details=_details(plural, group, name)
    )


def no_such_path() -> ApiError:
    """404: no such resource type or path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed(method: str) -> ApiError:
    """405: the path exists, the verb does not."""
    return ApiError(405, "MethodNotAllowed", f"the server does not allow {method} on the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{_qualified(plural, group)} "{name}" already exists',
        details=_details(plural, group, name),
    )


def conflict(plural: str, group: str, name: str, why: str, *, causes: Sequence[Cause] = ()) -> ApiError:
    """409: somebody else changed it, or owns the field."""
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(plural, group, name, causes=_causes(causes)))


def field_conflict(causes: Sequence[Cause]) -> ApiError:
    """409: a server-side apply wants fields that others own."""
    noun = "conflict" if len(causes) == 1 else "conflicts"
    lines = "; ".join(f"{cause.message}: {cause.field}" for cause in causes)
    message = f"Apply failed with {len(causes)} {noun}: {lines}"
    return ApiError(409, "Conflict", message, details={"causes": _causes(causes)})


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> ApiError:
    """410: the history that was asked for is gone; list again."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413: the body is over the limit."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(given: str, accepted: Sequence[str]) -> ApiError:
    """415: a body or patch of a kind we do not read."""
    wanted = ", ".join(accepted)
    message = (
        f"the body of the request was in an unknown format ({given or 'none'}) - accepted media types include: {wanted}"
    )
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks rules of its kind; all of them are named."""
    lines = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    message = f'{kind + ("." + group if group else "")} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", message, details=_details(kind, group, name, causes=_causes(causes)))


def too_new(wanted: int, current: int) -> ApiError:
    """504: a version from the future (for example of another life of this server)."""
    details: JsonObject = {
        "retryAfterSeconds": 1,
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    }
    return ApiError(
        504,
        "Timeout",
        f"Too large resource version: {wanted}, current: {current}",
        details=details,
        headers={"Retry-After": "1"},
    )


def _causes(causes: Sequence[Cause]) -> list[JsonObject]:
    return [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
