"""Encodes and decodes frames in Triton: the only package that uses tritonclient."""

from service.inference.client import MAX_BATCH, Decoded, Encoded, Inference
from service.inference.model_shape import LATENT_SIZE, ModelShape
from service.inference.models import Model, Models, ModelVersion

__all__ = [
    "LATENT_SIZE",
    "MAX_BATCH",
    "Decoded",
    "Encoded",
    "Inference",
    "Model",
    "ModelShape",
    "ModelVersion",
    "Models",
]
