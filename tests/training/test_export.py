"""A run's network as one file: what it makes is what the network makes, for every size that it can take."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import deblur
from tests.training.test_weights import made_run, publish

TASK = {"config": "export", "task": "deblur.training.export:export"}
SMALL = {
    "cnn": ["model=cnn", "model.width=4", "model.depth=2"],
    "unet": ["model=unet", "model.widths=[4,6]", "model.blocks=[0,1]"],
    "nafnet": [
        "model=nafnet",
        "model.width=4",
        "model.encoder_blocks=[1]",
        "model.middle_blocks=0",
        "model.decoder_blocks=[0]",
        "model.attention_window=32",
    ],
    "mlp": ["model=mlp", "model.width=8"],
    "deconvolver": [
        "model=deconvolver",
        "model.stages=1",
        "model.blocks=[0,0]",
        "model.first_blocks=[0,0]",
        "model.filters=1",
    ],
    "coarse_to_fine": [
        "model=coarse_to_fine",
        "model.stages=[1,1]",
        "model.blocks=[0,0]",
        "model.coarse_blocks=[0,0]",
        "model.psf_width=4",
        "model.filters=1",
    ],
}
FORMATS = ["pt2"]
if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
    FORMATS.append("onnx")
needs_onnx = pytest.mark.skipif("onnx" not in FORMATS, reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def run_with(tmp_path_factory, tiny_root):
    """A run with a small network of this name, which is never the identity."""

    def make(name: str) -> Path:
        return made_run(tmp_path_factory.mktemp("runs") / name, tiny_root, *SMALL[name])

    return make


@pytest.fixture
def export(door):
    return partial(door, **TASK)


def restored(file: Path, blurred: Tensor) -> Tensor:
    """What a program that knows only the file makes of the images."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(blurred)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name) == ("blurred", "restored")
    return torch.from_numpy(session.run(None, {"blurred": blurred.numpy()})[0])


@pytest.mark.parametrize(
    ("name", "kind"), [("cnn", "pt2"), ("unet", "pt2"), pytest.param("nafnet", FORMATS[-1], marks=pytest.mark.slow)]
)
def test_what_is_exported_restores_images_of_any_size_as_the_run_does(run_with, export, tmp_path, name, kind):
    run = run_with(name)
    ended = export(f"run={run}", f"format={kind}", f"output=made/it.{kind}")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    (file,) = (tmp_path / "made").iterdir()
    assert file.name == f"it.{kind}"
    for shape in ((1, 1, 28, 28), (4, 1, 17, 70), (1, 1, 90, 41)):
        blurred = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
        made = restored(file, blurred)
        torch.testing.assert_close(made, deblur.load(run)(blurred), atol=1e-5, rtol=0)
        assert made.min() >= 0
        assert made.max() <= 1
    assert "any height and width" in ended.out
    assert float(ended.out.split()[-1]) < 1e-5


def test_a_network_of_one_size_is_exported_for_it_and_says_so(run_with, export):
    run, kind = run_with("mlp"), FORMATS[-1]
    ended = export(f"run={run}", f"format={kind}")
    assert ended.code == 0, ended.err
    assert "1 x 28x28 pixels only" in ended.out
    blurred = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(restored(run / f"network.{kind}", blurred), deblur.load(run)(blurred), atol=1e-5, rtol=0)


def test_a_published_run_is_exported_for_one_size_where_it_is_asked_for(run_with, export, tmp_path):
    run = publish(run_with("cnn"), tmp_path / "published")
    ended = export(f"run={run}", "format=pt2", "size=[24,40]")
    assert ended.code == 0, ended.err
    assert "1 x 24x40 pixels only" in ended.out
    program = torch.export.load(run / "network.pt2").module()
    assert program(torch.zeros(3, 1, 24, 40)).shape == (3, 1, 24, 40)
    with pytest.raises(AssertionError):
        program(torch.zeros(3, 1, 25, 40))


def test_a_network_that_is_given_the_psf_is_refused_in_one_true_line(export, tmp_path, tiny_root):
    run = made_run(tmp_path / "nonblind", tiny_root, *SMALL["cnn"], "task=nonblind")
    for size in ("null", "28"):
        ended = export(f"run={run}", "format=pt2", f"size={size}", "output=made/it.pt2")
        assert ended.code == 2
        (line,) = ended.err.strip().splitlines()
        assert f"run={run}: its network is given the PSF" in line
        assert "must be a run whose network sees the blurred images alone" in line
    assert not (tmp_path / "made").exists()


def test_a_network_whose_grids_depend_on_the_size_is_exported_for_one(run_with, export):
    run = run_with("coarse_to_fine")
    ended = export(f"run={run}", "format=pt2")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "size=[<height>,<width>] exports it for one size" in line
    assert not list(run.glob("*.pt2"))
    ended = export(f"run={run}", "format=pt2", "size=[28,40]")
    assert ended.code == 0, ended.err
    blurred = torch.rand(5, 1, 28, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(restored(run / "network.pt2", blurred), deblur.load(run)(blurred), atol=1e-5, rtol=0)


@needs_onnx
@pytest.mark.slow
def test_what_onnx_has_no_operation_for_is_one_line(run_with, export, tmp_path):
    run = run_with("deconvolver")
    ended = export(f"run={run}", "format=onnx", "output=made/it.onnx", "size=28")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "format=onnx: BlindDeconvolver cannot be exported; format=pt2 may take it" in line
    assert not list((tmp_path / "made").iterdir())


def test_onnx_without_its_packages_is_one_line(run_with, export, monkeypatch):
    monkeypatch.setattr("deblur.training.export.find_spec", lambda name: None if name == "onnxscript" else object())
    ended = export(f"run={run_with('cnn')}", "format=onnx")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "format=onnx" in line
    assert "pip install -e '.[export]'" in line


def test_a_file_that_restores_otherwise_than_the_network_is_not_kept(run_with, export, tmp_path, monkeypatch):
    monkeypatch.setattr("deblur.training.export._open", lambda file, kind: lambda blurred: blurred)
    run = run_with("cnn")
    ended = export(f"run={run}", "format=pt2", "size=16")
    assert ended.code == 2
    assert "differs from the network by" in ended.err
    assert not list(run.glob("*.pt2"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["format=tflite"], ["format=tflite", "one of onnx, pt2"]),
        (["format=pt2", "output=it.onnx"], ["output=it.onnx", "a .pt2 file"]),
        (["format=pt2", "output=file/it.pt2"], ["output=", "cannot be written"]),
        (["format=pt2", "size=0"], ["size=0", "a whole number"]),
        (["format=pt2", "size=[1,2,3]"], ["size=[1,2,3]", "[height, width]"]),
        (["format=pt2", "size=40"], ["size=[40,40]", "takes no images of 1x40x40"]),
        (["format=pt2", "run=nowhere"], ["run=nowhere", "no run"]),
        (["format=pt2", "sizes=40"], ["sizes", "did you mean size"]),
        (["format=pt2", "-m"], ["one thing at a time"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(run_with, export, tmp_path, arguments, said):
    (tmp_path / "file").write_text("no folder")
    run = run_with("mlp")
    before = sorted(run.rglob("*"))
    ended = export(*([] if "run=nowhere" in arguments else [f"run={run}"]), *arguments)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert sorted(run.rglob("*")) == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["file"]
