"""What is answered and never stored: reviews of tokens and of rights."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.devcluster.registry.resource import Resource

__all__ = ["REVIEWS"]


class _Review(Resource):
    namespaced = False
    verbs = ("create",)


class TokenReviews(_Review):
    group = "authentication.k8s.io"
    kind = "TokenReview"
    plural = "tokenreviews"
    singular = "tokenreview"


class SelfSubjectReviews(_Review):
    group = "authentication.k8s.io"
    kind = "SelfSubjectReview"
    plural = "selfsubjectreviews"
    singular = "selfsubjectreview"


class SubjectAccessReviews(_Review):
    group = "authorization.k8s.io"
    kind = "SubjectAccessReview"
    plural = "subjectaccessreviews"
    singular = "subjectaccessreview"


class LocalSubjectAccessReviews(_Review):
    group = "authorization.k8s.io"
    kind = "LocalSubjectAccessReview"
    plural = "localsubjectaccessreviews"
    singular = "localsubjectaccessreview"
    namespaced = True


class SelfSubjectAccessReviews(_Review):
    group = "authorization.k8s.io"
    kind = "SelfSubjectAccessReview"
    plural = "selfsubjectaccessreviews"
    singular = "selfsubjectaccessreview"


class SelfSubjectRulesReviews(_Review):
    group = "authorization.k8s.io"
    kind = "SelfSubjectRulesReview"
    plural = "selfsubjectrulesreviews"
    singular = "selfsubjectrulesreview"


REVIEWS: Final[tuple[Resource, ...]] = (
    SelfSubjectReviews(),
    TokenReviews(),
    LocalSubjectAccessReviews(),
    SelfSubjectAccessReviews(),
    SelfSubjectRulesReviews(),
    SubjectAccessReviews(),
)
