"""Fitting the learned policy to an installation's own outcomes; needs the extra ``fit``, and is imported by nothing else."""

from hpp_middleware.fitting.fit import FitReport, Refused, Row, fit, read_rows

__all__ = ["FitReport", "Refused", "Row", "fit", "read_rows"]
