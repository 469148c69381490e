"""TorchScript export and import, and the contract of every published model.

The only module that uses TorchScript (deprecated upstream since torch 2.11).

The contract of every recipe's pair of modules:

- encoder: uint8 ``[N, 144, 256, 3]`` RGB -> (latent, embedding), both float32 ``[N, 200]``;
- decoder: float32 ``[N, 200]`` -> (uint8 ``[N, 144, 256, 3]`` RGB, embedding float32 ``[N, 200]``).

The decoder returns the same embedding for a latent as the encoder, so that a latent alone can be
searched for. Scaling, rounding and clipping are inside, so no caller can get them wrong.

A decoder also exports a method for gradient descent through it (`trainer.refine`):

- ``pictures``: latents float32 ``[N, 200]`` -> float32 ``[N, 3, 144, 256]`` RGB, about 0 to 1: the
  output of `forward` before rounding and clipping, differentiable in the latents.

Serving does not need it, and older published decoders lack it (see `pictures_of`).
"""

import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.durable import sync
from trainer.errors import ContractError

LATENT_SIZE = 200


def to_pictures(frames: Tensor) -> Tensor:
    """Turn uint8 ``[N, H, W, 3]`` into float32 ``[N, 3, H, W]`` between 0 and 1."""
    return frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def to_frames(pictures: Tensor) -> Tensor:
    """Turn float ``[N, 3, H, W]`` between 0 and 1 into uint8 ``[N, H, W, 3]``, to the nearest."""
    levels = torch.nan_to_num(pictures.to(torch.float32) * 255.0, nan=0.0)
    return levels.round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class Whitening(nn.Module):
    """Turns latents into embeddings: subtract the mean, whiten by a covariance, normalise to 1.

    `trainer.embedding` fits the covariance. Directions with (almost) no variance carry no
    information and get no weight. A latent that is then zero, such as the mean itself, becomes the
    first unit vector.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        """Take the latents' mean ``[200]`` and a covariance ``[200, 200]``."""
        super().__init__()
        variances, directions = torch.linalg.eigh(covariance.to("cpu", torch.float64))
        floor = max(float(variances.max()) * 1e-8, 1e-12)
        varied = variances > floor
        weights = torch.where(varied, variances.clamp(min=floor).rsqrt(), 0.0)
        self.mean: Tensor
        self.matrix: Tensor
        self.fallback: Tensor
        self.register_buffer("mean", mean.detach().to("cpu", torch.float32).clone())
        self.register_buffer("matrix", (directions * weights).to(torch.float32))
        self.register_buffer("fallback", nn.functional.one_hot(torch.tensor(0), mean.numel()) * 1.0)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the unit-length embeddings ``[N, 200]`` of latents ``[N, 200]``."""
        whitened = (latents - self.mean) @ self.matrix
        length = torch.linalg.vector_norm(whitened, dim=1, keepdim=True)
        known = torch.isfinite(length) & (length > 1e-6)
        return torch.where(known, whitened / length.clamp(min=1e-6), self.fallback)


def to_torchscript(module: nn.Module) -> torch.jit.ScriptModule:
    """Script a module for inference on any device; a scripted module is returned as it is.

    Neither traced nor frozen: both bake the device into the code.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return module
    still = copy.deepcopy(module).to("cpu").eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: torch.jit.ScriptModule = torch.jit.script(still)
    return scripted


def save_torchscript(module: nn.Module, path: Path) -> None:
    """Write a module as a TorchScript file, durably.

    Source positions (absolute paths of the exporting machine) are stripped, so the same weights
    give the same bytes on every machine.
    """
    scripted = to_torchscript(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(scripted, str(path))
    _leave_out_source_positions(path)
    sync(path)


def _leave_out_source_positions(path: Path) -> None:
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    # Records are named after the archive, whose name is the file's: model.pt holds "model/…".
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records.items():
        if not name.endswith(".debug_pkl") and name not in (".data/serialization_id", "version"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Read a TorchScript file onto the CPU.

    Raises:
        ContractError: The file is not a TorchScript module.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call] # torch's
                str(path), map_location="cpu"
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise ContractError(f"{path.name} is not a TorchScript module: {error}") from error
    return module.eval()


def pictures_of(decoder: torch.jit.ScriptModule) -> Callable[[Tensor], Tensor]:
    """Return a decoder's exported method ``pictures``: latents to differentiable pictures.

    Raises:
        ContractError: The decoder does not export it.
    """
    pictures: Callable[[Tensor], Tensor] | None = getattr(decoder, "pictures", None)
    if not callable(pictures):
        raise ContractError(
            "The decoder has no method `pictures` (it was exported by an older version): "
            "train the model again"
        )
    return pictures


def devices_in_code(module: torch.jit.ScriptModule) -> list[str]:
    """Return the device constants in a module's code, which would tie it to one machine."""
    return re.findall(r'Device = prim::Constant\[value="([^"]+)"\]', str(module.inlined_graph))
