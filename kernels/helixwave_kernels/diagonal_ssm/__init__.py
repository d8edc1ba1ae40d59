"""Diagonal state space models: S4D, DSS and S5 with one input a state space."""

from helixwave_kernels.diagonal_ssm import chunked as chunked
from helixwave_kernels.diagonal_ssm import native as native
from helixwave_kernels.diagonal_ssm.reference import diagonal_ssm

__all__ = ["diagonal_ssm"]
