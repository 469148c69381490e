"""How large a model frame is. Apart from `film.frame`, so that training needs no PyAV."""

MODEL_FRAME_WIDTH = 256
MODEL_FRAME_HEIGHT = 144
