"""ListModels and GetModel: the models that are ready now."""

from typing import Annotated, Final

from pydantic import StringConstraints, TypeAdapter
from refilm.v1 import autoencoder_pb2 as pb

from service.inference import Models
from service.rpc import messages
from service.rpc.call import Context
from service.rpc.names import parse_model_name
from service.rpc.pages import PageTokens, page_size

_TOKENS: Final = PageTokens(
    "models", TypeAdapter(Annotated[str, StringConstraints(min_length=1, max_length=128)])
)


class ModelCalls:
    """Handlers for models."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ListModels(
        self,
        request: pb.ListModelsRequest,
        context: "Context[pb.ListModelsRequest, pb.ListModelsResponse]",
    ) -> pb.ListModelsResponse:
        """List the models that are ready now, by name."""
        size = page_size(request.page_size)
        after = _TOKENS.after(request.page_token) or ""
        models = [model for model in self._models.list() if model.name > after]
        page = models[:size]
        return pb.ListModelsResponse(
            models=[messages.model_message(model) for model in page],
            next_page_token=_TOKENS.token(page[-1].name) if len(models) > size else "",
        )

    async def GetModel(
        self,
        request: pb.GetModelRequest,
        context: "Context[pb.GetModelRequest, pb.GetModelResponse]",
    ) -> pb.GetModelResponse:
        """Get one model."""
        name = parse_model_name(request.name, "name")
        return pb.GetModelResponse(model=messages.model_message(self._models.get(name)))
