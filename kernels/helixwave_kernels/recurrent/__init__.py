"""Nonlinear recurrent cells with independent heads: sLSTM, LSTM, GRU, Elman."""

from helixwave_kernels.recurrent import chunked as chunked
from helixwave_kernels.recurrent import native as native
from helixwave_kernels.recurrent import triton as triton
from helixwave_kernels.recurrent.reference import recurrent

__all__ = ["recurrent"]
