"""How large a model frame is. Apart from all else, so that training needs no PyAV."""

MODEL_FRAME_WIDTH = 256
MODEL_FRAME_HEIGHT = 144
