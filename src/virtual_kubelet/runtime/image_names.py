"""Names of images: what a reference means, what it lacks, and what is none. Pure.

The grammar is that of the distribution project's ``reference`` package (v0.6), with Docker's short names; the messages are
its own, and the kubelet's around them (pkg/util/parsers, pkg/kubelet/images/image_manager.go).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from virtual_kubelet.environment.fields import quote

__all__ = [
    "DEFAULT_TAG",
    "ImageName",
    "InvalidImageNameError",
    "default_pull_policy",
    "parse_image_name",
    "with_default_tag",
]

DEFAULT_TAG: Final = "latest"
_DOCKER: Final = "docker.io"
#: Another name of it, from the time before content was addressed by digest.
_DOCKER_INDEX: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_LONGEST_REPOSITORY: Final = 255

_COMPONENT: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH: Final = rf"{_PART}(?:/{_PART})*"
_DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE: Final = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
_IMAGE_ID: Final = re.compile(r"[a-f0-9]{64}")
#: Hexadecimal digits of a digest, by algorithm.
_DIGITS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_ALGORITHM: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*")


class InvalidImageNameError(ValueError):
    """This is not the name of an image, and never will be; the message is the kubelet's."""


class ImageName(NamedTuple):
    """A reference with its defaults.

    Attributes:
        repository: with the registry: ``docker.io/library/busybox``; what credentials are looked up by.
        tag: ``latest`` if neither tag nor digest is given; else empty if there is none.
        digest: such as ``sha256:…``; empty if there is none.
    """

    repository: str
    tag: str
    digest: str


def parse_image_name(image: str) -> ImageName:
    """What ``image`` means. Raises ``InvalidImageNameError``."""
    try:
        found = _parse(image)
    except InvalidImageNameError as error:
        raise InvalidImageNameError(f"couldn't parse image name {quote(image)}: {error}") from None
    return found if found.tag or found.digest else found._replace(tag=DEFAULT_TAG)


def with_default_tag(image: str) -> str:
    """As it is, with ``:latest`` if it has neither tag nor digest: what a runtime is asked for.

    Raises ``InvalidImageNameError`` with the message of a kubelet's status and event.
    """
    try:
        name = parse_image_name(image)
    except InvalidImageNameError as error:
        raise InvalidImageNameError(f"Failed to apply default image tag {quote(image)}: {error}") from None
    return image if name.digest or image.endswith(":" + name.tag) else f"{image}:{name.tag}"


def default_pull_policy(image: str) -> str:
    """``Always`` for ``:latest``, else ``IfNotPresent``; the API server's default, for pods that it has not seen."""
    try:
        return "Always" if parse_image_name(image).tag == DEFAULT_TAG else "IfNotPresent"
    except InvalidImageNameError:
        return "IfNotPresent"


def _parse(image: str) -> ImageName:
    if _IMAGE_ID.fullmatch(image):
        raise InvalidImageNameError(f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(image)
    path = rest.partition(":")[0]
    if path.lower() != path:
        raise InvalidImageNameError(f"invalid reference format: repository name ({path}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        lower = _REFERENCE.fullmatch(f"{domain}/{rest}".lower()) is not None
        raise InvalidImageNameError("repository name must be lowercase" if lower else "invalid reference format")
    if len(match["path"]) > _LONGEST_REPOSITORY:
        raise InvalidImageNameError(f"repository name must not be more than {_LONGEST_REPOSITORY} characters")
    digest = match["digest"] or ""
    if digest:
        _check_digest(digest)
    return ImageName(f"{match['domain']}/{match['path']}", match["tag"] or "", digest)


def _split_domain(name: str) -> tuple[str, str]:
    """The registry and the rest, as Docker tells them apart: a registry has a dot, a port, an upper-case letter, or is
    ``localhost``."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        domain, remainder = (_DOCKER if first == _DOCKER_INDEX else first), rest
    else:
        domain, remainder = _DOCKER, name
    if domain == _DOCKER and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    digits = _DIGITS.get(algorithm)
    if digits is None:
        known = _ALGORITHM.fullmatch(algorithm) is not None
        raise InvalidImageNameError("unsupported digest algorithm" if known else "invalid checksum digest format")
    if len(encoded) != digits:
        raise InvalidImageNameError("invalid checksum digest length")
    if encoded.lower() != encoded:
        raise InvalidImageNameError("invalid checksum digest format")
