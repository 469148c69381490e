"""The previews of a search as one picture to look at; needs Pillow, as the extra [cli] has it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from refilm._output import Output
from refilm._question_values import SearchResult
from refilm._values import FRAME_HEIGHT, FRAME_WIDTH
from refilm.cli._times import format_time
from refilm.cli._usage import UsageError

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_COLUMNS = 4
_GAP = 12
_LINE = 17
_BACKGROUND = (22, 22, 24)
_TEXT = (225, 225, 225)
_FAINT = (150, 150, 155)


def check(path: Path) -> None:
    """Checks before the search that its previews can be saved.

    Raises:
        UsageError: Pillow is missing, or the file name has no picture format's suffix.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"previews are saved as {', '.join(_FORMATS)}, not as {path.name}")
    try:
        import PIL  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise UsageError('--save needs Pillow: pip install "refilm[cli]"') from error


def save(result: SearchResult, path: Path) -> None:
    """Writes the previews with their films, times and similarities, the most similar first.

    Raises:
        ValueError: There is nothing to save.
        OSError: The file cannot be written.
    """
    from PIL import Image, ImageDraw

    if not result.hits:
        raise ValueError(f"nothing was found, so {path} was not written")
    columns = min(_COLUMNS, len(result.hits))
    rows = math.ceil(len(result.hits) / columns)
    cell_width, cell_height = FRAME_WIDTH + _GAP, FRAME_HEIGHT + 2 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for index, hit in enumerate(result.hits):
        left = _GAP + index % columns * cell_width
        top = _GAP + index // columns * cell_height
        if hit.preview is not None:
            with Image.open(io.BytesIO(hit.preview)) as preview:
                sheet.paste(preview.convert("RGB"), (left, top))
        title = _fitted(draw, font, hit.title or hit.film, FRAME_WIDTH)
        top += FRAME_HEIGHT + 4
        draw.text((left, top), title, _TEXT, font)
        span = f"{format_time(hit.start)} - {format_time(hit.end)}"
        draw.text((left, top + _LINE), span, _FAINT, font)
        draw.text(
            (left + FRAME_WIDTH, top + _LINE), f"{hit.similarity:.3f}", _TEXT, font, anchor="ra"
        )
    data = io.BytesIO()
    sheet.save(data, _FORMATS[path.suffix.lower()])
    with Output(path) as output:
        output.write(data.getvalue())
        output.commit()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    # Titles are in all languages; Pillow's own font covers little beyond English.
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf"):
        try:
            return ImageFont.truetype(name, 13)
        except OSError:
            continue
    return ImageFont.load_default(13)


def _fitted(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    width: int,
) -> str:
    fitted = text
    while draw.textlength(fitted, font) > width:
        text = text[:-1]
        fitted = f"{text.rstrip()}…"
    return fitted
