"""The page itself, in Gradio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr
from torch import Tensor

from deblur.data.picture_files import SUFFIXES
from deblur.demo.drawing import draw_digit, read_strokes
from deblur.demo.pictures import message_html, picture_html, result_html
from deblur.demo.play import BLURS, LONGEST, NONE, STRONGEST, is_digit, make_blur, play
from deblur.demo.runs import Runs
from deblur.demo.upload import read_upload
from deblur.errors import UsageError, check_choice, check_integer
from deblur.seeding import generator
from deblur.training.settings import section

_DRAWING, _PICTURE = "drawing", "picture"
_BOARD = """
<canvas width="336" height="336" aria-label="board to draw on"></canvas>
<div><button type="button" class="undo">undo</button><button type="button" class="clear">clear</button></div>
"""
_BOARD_CSS = """
canvas {display: block; width: 100%; max-width: 230px; aspect-ratio: 1; box-sizing: border-box; border-radius: 6px;
    border: 1px solid var(--border-color-primary); cursor: crosshair; touch-action: none}
div {display: flex; gap: 8px; margin-top: 8px}
button {margin: 0; padding: 3px 14px; font: inherit; font-size: 14px; color: var(--body-text-color); cursor: pointer;
    background: var(--button-secondary-background-fill); border-radius: 6px}
"""
_HINT = "Draw a digit or drop a picture, choose blur and network, and press the button."
_NAMES = {"gaussian_process": "smooth (gaussian_process)", NONE: "none: the picture is blurred already"}
_HIGHEST_SEED = 2**53  # that the page's numbers hold
_MINUTES = 60  # after which a picture is forgotten


def build_page(runs: Runs, *, folder: Path, upload_mb: float, longest_side: int, seed: int) -> gr.Blocks:
    """The page, not yet opened.

    Args:
        runs: to choose among.
        folder: where Gradio puts what is sent to it; a picture is removed as soon as it is read.
        upload_mb: of a picture's file, at most, megabytes.
        longest_side: larger pictures are scaled down to it, pixels.
        seed: of the first motion.
    """

    def take(path: str | None) -> tuple[Tensor | None, str]:
        """The picture in the file that was sent, and how it is shown."""
        if path is None:
            return None, message_html(_HINT)
        file = Path(path)
        if not file.resolve().is_relative_to(folder.resolve()):
            return None, message_html("picture: was not sent to this page", error=True)
        try:
            image = read_upload(file, upload_mb, longest_side)
        except UsageError as error:
            return None, message_html(str(error), error=True)
        finally:
            file.unlink(missing_ok=True)
        return image, picture_html(image, file.name)

    def show(
        source: str,
        drawing: str | None,
        run: str,
        blur: str,
        length: float,
        noise: float,
        seed: int,
        picture: Tensor | None,
    ) -> str:
        """What comes out, as HTML."""
        try:
            return _shown(runs, _image(source, drawing, picture), run, blur, length, noise, seed)
        except UsageError as error:
            return message_html(str(error), error=True)

    digits = runs.fitting(digits=True)
    with gr.Blocks(title="deblur", analytics_enabled=False, delete_cache=(60, 60 * _MINUTES), fill_width=True) as page:
        gr.Markdown("## Blur a digit or a picture by a random motion, and see what a network makes of it")
        picture = gr.State(None, time_to_live=60 * _MINUTES)
        with gr.Row():
            with gr.Column(scale=1, min_width=330):
                source = gr.Radio(
                    [("draw a digit", _DRAWING), ("a picture", _PICTURE)], value=_DRAWING, label="What to blur"
                )
                board = gr.HTML(
                    "", html_template=_BOARD, css_template=_BOARD_CSS, js_on_load=_board_script(), elem_id="board"
                )
                file = gr.File(
                    label=f"Picture, at most {upload_mb:g} MB",
                    file_types=list(SUFFIXES),
                    type="filepath",
                    height=140,
                    visible="hidden",
                    elem_id="picture",
                )
                run = gr.Dropdown(
                    [(choice.name, path) for path, choice in runs.choices.items()],
                    value=digits,
                    label="Network",
                    elem_id="run",
                )
                blur = gr.Dropdown([(_NAMES.get(kind, kind), kind) for kind in BLURS], value="shake", label="Blur")
                length = gr.Slider(1, LONGEST, 9, step=0.5, label="Length, pixels", elem_id="length")
                noise = gr.Slider(0, STRONGEST, 0, step=0.005, label="Noise, white being 1", elem_id="noise")
                with gr.Row():
                    number = gr.Number(seed, label="Seed", precision=0, minimum=0, min_width=120)
                    again = gr.Button("New motion", min_width=120, elem_id="again")
                go = gr.Button("Blur and restore", variant="primary", elem_id="go")
            with gr.Column(scale=3, min_width=320):
                result = gr.HTML(message_html(_HINT), elem_id="result")
        inputs = [source, board, run, blur, length, noise, number, picture]
        source.change(_swap(runs), [source, run], [board, file, run], api_name="swap", show_progress="hidden")
        with_motion = [length, noise, number, again, go]
        blur.change(_only_with_motion, blur, with_motion, api_visibility="private", show_progress="hidden")
        file.change(take, file, [picture, result], api_name="take")
        go.click(show, inputs, result, api_name="show")
        again.click(lambda seed: int(seed or 0) + 1, number, number, api_visibility="private").then(
            show, inputs, result, api_visibility="private"
        )
    return page.queue(max_size=16, default_concurrency_limit=1)


def _shown(runs: Runs, image: Tensor, run: str, kind: str, length: float, noise: float, seed: int) -> str:
    blur = make_blur(kind, length, noise)
    with section(""):
        seed = check_integer("seed", seed, low=0, high=_HIGHEST_SEED)
    network = runs.network(run)
    played = play(image, blur, network, runs.choices[run].channels, generator("demo", seed), runs.device)
    choice = runs.choices[run]
    said = [choice.name, "as it came" if blur is None else f"{kind} of {length:g} pixels, noise {noise:g}, seed {seed}"]
    said += [f"gain {played.after['psnr'] - played.before['psnr']:+.2f} dB"] if played.after else []
    said += [] if choice.digits == is_digit(image) else ["a network for other images"]
    return result_html(played, " \u00b7 ".join(said))


def _image(source: str, drawing: str | None, picture: Tensor | None) -> Tensor:
    with section(""):
        check_choice("source", source, (_DRAWING, _PICTURE))
    if source == _DRAWING:
        return draw_digit(read_strokes(drawing))
    if picture is None:
        raise UsageError("picture: there is none; drop one, or click to choose it")
    return picture


def _swap(runs: Runs) -> Callable[[str, str], tuple[dict, dict, dict]]:
    """What changes on the page between drawings and pictures."""

    def swap(source: str, run: str) -> tuple[dict, dict, dict]:
        drawing = source == _DRAWING
        return (
            gr.update(visible=True if drawing else "hidden"),
            gr.update(visible="hidden" if drawing else True),
            gr.update(value=runs.fitting(drawing, run)),
        )

    return swap


def _only_with_motion(kind: str) -> list[dict]:
    moves = kind != NONE
    return [*[gr.update(interactive=moves)] * 4, gr.update(value="Blur and restore" if moves else "Restore")]


def _board_script() -> str:
    return Path(__file__).with_name("board.js").read_text(encoding="utf-8")
