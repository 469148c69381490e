"""Triton's "pytorch" backend for the Triton of the wheel, which has no libtorch.

A Python-based backend: Triton finds it at `<backend-directory>/pytorch/model.py` and uses it for
every model whose configuration says `backend: "pytorch"`. It reads the same model repository that
NVIDIA's container reads with its C++ backend: `<version>/model.pt`, tensors named `INPUT__0`,
`OUTPUT__0`, … in the order of the module's arguments and results.

Tensors travel by DLPack: `as_numpy()` silently gives 0 bytes under numpy 2.
"""

import json
import os
from pathlib import Path

# Every version of every model is a process: waiting OpenMP threads must sleep instead of spinning.
# Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One version of one model."""

    def initialize(self, args):
        """Load `<version>/model.pt` onto the instance's device."""
        config = json.loads(args["model_config"])
        self._inputs = [tensor["name"] for tensor in sorted(config["input"], key=_position)]
        self._outputs = [tensor["name"] for tensor in sorted(config["output"], key=_position)]
        on_gpu = args["model_instance_kind"] == "GPU"
        self._device = torch.device(f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu")
        # A reconstruction keeps an encoder and a decoder busy at once: half the cores each.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        # The optimising executor recompiles for new batch sizes, and its first runs
        # differ from later ones in the last bits.
        torch._C._set_graph_executor_optimize(False)
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt"
        self._module = torch.jit.load(str(path), map_location=self._device).eval()

    def execute(self, requests):
        """Answer the requests of a batch with one run of the module."""
        responses = [None] * len(requests)
        waiting = []
        for index, request in enumerate(requests):
            if request.is_cancelled():
                error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
                responses[index] = pb_utils.InferenceResponse(error=error)
            else:
                waiting.append(index)
        try:
            answers = self._run([requests[index] for index in waiting])
            for index, answer in zip(waiting, answers, strict=True):
                responses[index] = answer
        except Exception:
            # One request is at fault: run alone, each gets its own answer or error.
            for index in waiting:
                responses[index] = self._run_alone(requests[index])
        return responses

    def _run_alone(self, request):
        try:
            return self._run([request])[0]
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason))

    def _run(self, requests):
        if not requests:
            return []
        arguments = []
        for name in self._inputs:
            parts = [self._tensor(request, name) for request in requests]
            arguments.append(parts[0] if len(parts) == 1 else torch.cat(parts))
            sizes = [len(part) for part in parts]
        with torch.inference_mode():
            results = self._module(*arguments)
        results = results if isinstance(results, (tuple, list)) else (results,)
        shares = {
            name: torch.split(result.contiguous(), sizes)
            # An older version of a model may have fewer outputs than the configuration has.
            for name, result in zip(self._outputs, results, strict=False)
        }
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor.from_dlpack(name, shares[name][index])
                    for name in shares
                    if name in request.requested_output_names()
                ]
            )
            for index, request in enumerate(requests)
        ]

    def _tensor(self, request, name):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        return torch.from_dlpack(tensor).to(self._device)


def _position(tensor):
    """The number at the end of `INPUT__0`, `OUTPUT__1`."""
    return int(tensor["name"].rpartition("__")[2])
