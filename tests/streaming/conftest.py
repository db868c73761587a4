"""Properties are about bytes, not about how fast a loaded machine is."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("no timing", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no timing")
