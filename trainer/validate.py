"""Runs a pair of modules and checks the contract of published models.

Triton loads and serves a model whose configuration has wrong shapes, so a broken model must be
found here.
"""

import torch
from torch import Tensor

from film.size import MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH
from trainer.errors import ContractError
from trainer.export import LATENT_SIZE, devices_in_code

BATCH_SIZES = (1, 2, 5)
# A frame's result may depend on its batch only in the last digits of float32.
_RELATIVE_TOLERANCE = 1e-4
# Whitening amplifies small directions, and with them rounding errors. Embeddings have length 1, so
# no similarity changes by more than this.
_EMBEDDING_TOLERANCE = 1e-3
_GREY_LEVELS = 1


def validate(encoder: torch.jit.ScriptModule, decoder: torch.jit.ScriptModule) -> None:
    """Run an encoder and a decoder on several batches.

    Raises:
        ContractError: A rule is broken; the message says which, by which half, and how.
    """
    for half, module in (("encoder", encoder), ("decoder", decoder)):
        devices = devices_in_code(module)
        if devices:
            raise ContractError(
                f"The {half}'s code has a device constant ({devices[0]}), so it runs nowhere else: "
                "script the module instead of tracing or freezing it"
            )
    with torch.inference_mode():
        latents, embeddings = _validate_encoder(encoder)
        _validate_decoder(decoder, latents, embeddings)


def _validate_encoder(encoder: torch.jit.ScriptModule) -> tuple[Tensor, Tensor]:
    frames = _frames(max(BATCH_SIZES))
    whole = _encode(encoder, frames.clone())
    for size in BATCH_SIZES:
        given = frames[:size].clone()
        latents, embeddings = _encode(encoder, given)
        if not torch.equal(given, frames[:size]):
            raise ContractError("The encoder changes the frames it is given")
        _same("The encoder's latents depend on the batch", latents, whole[0][:size])
        _same_embeddings(
            "The encoder's embeddings depend on the batch", embeddings, whole[1][:size]
        )
    again = _encode(encoder, frames)
    if not (torch.equal(again[0], whole[0]) and torch.equal(again[1], whole[1])):
        raise ContractError("The encoder gives the same frames different latents each time")
    return whole


def _encode(encoder: torch.jit.ScriptModule, frames: Tensor) -> tuple[Tensor, Tensor]:
    results = _run("encoder", encoder, frames)
    if not (isinstance(results, tuple) and len(results) == 2):
        raise ContractError("The encoder must return two tensors: latents and embeddings")
    latents, embeddings = results
    _check_numbers("The encoder's latents", latents, len(frames))
    _check_embeddings("The encoder's embeddings", embeddings, len(frames))
    return latents, embeddings


def _validate_decoder(decoder: torch.jit.ScriptModule, latents: Tensor, embeddings: Tensor) -> None:
    whole, own_embeddings = _decode(decoder, latents.clone())
    _same_embeddings("The decoder's embeddings are not the encoder's", own_embeddings, embeddings)
    for size in BATCH_SIZES:
        given = latents[:size].clone()
        frames, own = _decode(decoder, given)
        if not torch.equal(given, latents[:size]):
            raise ContractError("The decoder changes the latents it is given")
        _same_embeddings("The decoder's embeddings depend on the batch", own, embeddings[:size])
        difference = int((frames.to(torch.int16) - whole[:size].to(torch.int16)).abs().max())
        if difference > _GREY_LEVELS:
            raise ContractError(
                f"The decoder's frames depend on the batch: by {difference} grey levels, "
                f"{_GREY_LEVELS} is allowed"
            )
    if not torch.equal(_decode(decoder, latents)[0], whole):
        raise ContractError("The decoder gives the same latents different frames each time")
    _decode(decoder, torch.zeros(1, LATENT_SIZE))
    _decode(decoder, torch.full((1, LATENT_SIZE), 1e6))


def _decode(decoder: torch.jit.ScriptModule, latents: Tensor) -> tuple[Tensor, Tensor]:
    results = _run("decoder", decoder, latents)
    if not (isinstance(results, tuple) and len(results) == 2):
        raise ContractError("The decoder must return two tensors: frames and embeddings")
    frames, embeddings = results
    shape = (len(latents), MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
    _check_tensor("The decoder's frames", frames, shape, torch.uint8)
    _check_embeddings("The decoder's embeddings", embeddings, len(latents))
    return frames, embeddings


def _run(half: str, module: torch.jit.ScriptModule, argument: Tensor) -> object:
    try:
        result: object = module(argument)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise ContractError(f"The {half} fails on a batch of {len(argument)}: {last}") from error
    return result


def _check_tensor(what: str, tensor: object, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ContractError(f"{what} must be a tensor, not {type(tensor).__name__}")
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ContractError(
            f"{what} must be {dtype} {list(shape)}, not {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor


def _check_numbers(what: str, tensor: object, count: int) -> Tensor:
    numbers = _check_tensor(what, tensor, (count, LATENT_SIZE), torch.float32)
    if not bool(torch.isfinite(numbers).all()):
        raise ContractError(f"{what} are not all finite")
    return numbers


def _check_embeddings(what: str, tensor: object, count: int) -> None:
    length = torch.linalg.vector_norm(_check_numbers(what, tensor, count), dim=1)
    if not torch.allclose(length, torch.ones_like(length), atol=1e-3):
        raise ContractError(f"{what} must have length 1, one has {float(length.min()):.6g}")


def _same(what: str, one: Tensor, other: Tensor, allowed: float = _RELATIVE_TOLERANCE) -> None:
    scale = max(float(other.abs().max()), 1e-6)
    difference = float((one - other).abs().max()) / scale
    if difference > allowed:
        raise ContractError(f"{what}: by {difference:.2g} of their scale, {allowed:g} is allowed")


def _same_embeddings(what: str, one: Tensor, other: Tensor) -> None:
    _same(what, one, other, _EMBEDDING_TOLERANCE)


def _frames(count: int) -> Tensor:
    """Make black, white, smooth and noisy frames, each different from the others."""
    shape = (MODEL_FRAME_HEIGHT, MODEL_FRAME_WIDTH, 3)
    generator = torch.Generator().manual_seed(2016)
    ramp = torch.linspace(0, 255, MODEL_FRAME_WIDTH)[None, :, None].expand(shape)
    kinds = [
        torch.zeros(shape),
        ramp,
        torch.full(shape, 255.0),
        torch.randint(0, 256, shape, generator=generator).float(),
    ]
    frames = [kinds[i] if i < len(kinds) else ramp.roll(i, 1) for i in range(count)]
    return torch.stack(frames).to(torch.uint8)
