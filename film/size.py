"""The size of a model frame; a separate module, so that training needs no PyAV."""

MODEL_FRAME_WIDTH = 256
MODEL_FRAME_HEIGHT = 144
