"""Decoder-only language models with Sparse Query Attention (Filipek, 2025), at home in `transformers`.

`import rxlm.llm` makes them known to AutoConfig and AutoModelForCausalLM.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from rxlm.llm.config import MODEL_TYPE, DecoderLMConfig
from rxlm.llm.modeling import DecoderLMForCausalLM, DecoderLMModel

AutoConfig.register(MODEL_TYPE, DecoderLMConfig, exist_ok=True)
AutoModel.register(DecoderLMConfig, DecoderLMModel, exist_ok=True)
AutoModelForCausalLM.register(DecoderLMConfig, DecoderLMForCausalLM, exist_ok=True)

__all__ = ["DecoderLMConfig", "DecoderLMForCausalLM", "DecoderLMModel"]
