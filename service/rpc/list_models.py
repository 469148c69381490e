"""ListModels and GetModel: what can answer now."""

import base64
import binascii

from refilm.v1 import autoencoder_pb2 as pb

from service.errors import InvalidFieldError
from service.inference import Models
from service.rpc import messages
from service.rpc.call import Context

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


class ModelCalls:
    """The calls about models."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ListModels(
        self,
        request: pb.ListModelsRequest,
        context: "Context[pb.ListModelsRequest, pb.ListModelsResponse]",
    ) -> pb.ListModelsResponse:
        """List the models that can answer now, by name."""
        if request.page_size < 0:
            raise InvalidFieldError("page_size", f"is {request.page_size}; must not be negative")
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = _after(request.page_token)
        models = [model for model in self._models.list() if model.name > after]
        page = models[:size]
        return pb.ListModelsResponse(
            models=[messages.model_message(model) for model in page],
            next_page_token=_token(page[-1].name) if len(models) > size else "",
        )

    async def GetModel(
        self,
        request: pb.GetModelRequest,
        context: "Context[pb.GetModelRequest, pb.GetModelResponse]",
    ) -> pb.GetModelResponse:
        """Get one model."""
        if not request.name:
            raise InvalidFieldError("name", "is empty; name a model", reason="MODEL_REQUIRED")
        return pb.GetModelResponse(model=messages.model_message(self._models.get(request.name)))


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(f"after:{name}".encode()).decode()


def _after(token: str) -> str:
    if not token:
        return ""
    try:
        kind, _, name = (
            base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(":")
        )
    except (binascii.Error, UnicodeError):
        kind = name = ""
    if kind != "after" or not name:
        raise InvalidFieldError(
            "page_token",
            "is none of ours; pass the next_page_token of the page before, unchanged",
            reason="INVALID_PAGE_TOKEN",
        )
    return name
