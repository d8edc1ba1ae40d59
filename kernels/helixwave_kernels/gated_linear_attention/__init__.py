"""Linear attention whose memory is forgotten at gated rates."""

from helixwave_kernels.gated_linear_attention import chunked as chunked
from helixwave_kernels.gated_linear_attention import triton as triton
from helixwave_kernels.gated_linear_attention.reference import gated_linear_attention

__all__ = ["gated_linear_attention"]
