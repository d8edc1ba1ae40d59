"""The matrix memory of xLSTM."""

from helixwave_kernels.mlstm import chunked as chunked
from helixwave_kernels.mlstm import triton as triton
from helixwave_kernels.mlstm.reference import mlstm

__all__ = ["mlstm"]
