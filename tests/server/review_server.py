"""Stands in for the API server where tokens and rights are asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from virtual_kubelet.kube.resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Resource
from virtual_kubelet.objects.authentication_v1 import TokenReview, TokenReviewStatus, UserInfo
from virtual_kubelet.objects.authorization_v1 import (
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
)

T = TypeVar("T", bound=msgspec.Struct)


class ReviewServer:
    """Answers reviews from tables.

    Attributes:
        tokens: token -> user.
        rule: whether an access is allowed.
        asked: every review that came, in order.
        failures: raised, one a request, before anything is answered.
        hold: while set, answers wait for it.
        token_error: said of a token that is not known.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, UserInfo] = {}
        self.rule: Callable[[SubjectAccessReviewSpec], bool] = lambda spec: True
        self.asked: list[TokenReview | SubjectAccessReview] = []
        self.failures: list[Exception] = []
        self.hold: asyncio.Event | None = None
        self.token_error = "invalid bearer token"
        self.access_status: SubjectAccessReviewStatus | None = None

    async def create(
        self, resource: Resource[T], obj: msgspec.Struct, namespace: str | None = None, *, timeout: float | None = None
    ) -> T:
        assert namespace is None
        assert timeout
        assert isinstance(obj, TokenReview | SubjectAccessReview)
        self.asked.append(obj)
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        answer: Any
        if isinstance(obj, TokenReview):
            assert resource.plural == TOKEN_REVIEWS.plural
            user = self.tokens.get(obj.spec.token)
            answer = TokenReview(
                spec=obj.spec,
                status=TokenReviewStatus(authenticated=True, user=user)
                if user is not None
                else TokenReviewStatus(error=self.token_error),
            )
        else:
            assert resource.plural == SUBJECT_ACCESS_REVIEWS.plural
            answer = SubjectAccessReview(
                spec=obj.spec,
                status=self.access_status or SubjectAccessReviewStatus(allowed=self.rule(obj.spec)),
            )
        return answer  # type: ignore[no-any-return]

    def questions(self) -> list[str]:
        """The access reviews as ``user verb resource/subresource name``."""
        found = []
        for review in self.asked:
            if isinstance(review, SubjectAccessReview):
                access = review.spec.resource_attributes
                assert access is not None
                found.append(f"{review.spec.user} {access.verb} {access.resource}/{access.subresource} {access.name}")
        return found
