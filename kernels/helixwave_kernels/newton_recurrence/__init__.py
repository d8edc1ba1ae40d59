"""Nonlinear recurrences solved for all steps at once."""

from helixwave_kernels.newton_recurrence import chunked as chunked
from helixwave_kernels.newton_recurrence import native as native
from helixwave_kernels.newton_recurrence.reference import newton_recurrence

__all__ = ["newton_recurrence"]
