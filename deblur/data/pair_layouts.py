"""Where a folder has its pairs: GoPro's and RealBlur's layouts, parallel folders of blurred and sharp pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from deblur.data.photographs import SPLITS
from deblur.data.picture_files import SUFFIXES
from deblur.errors import UsageError, nearest
from deblur.folders import files_in, folders_in
from deblur.seeding import generator

BLURRED = ("blur", "blurred", "input")  # names of folders; the first that is there counts
SHARP = ("sharp", "gt", "target")
_LIST = re.compile(r"RealBlur_(.+)_(train|val|test)_list\.txt")
_SHARE = 0.1  # of the scenes, for each of validation and test where the folder has no such part


class Pair(NamedTuple):
    """The files of one pair, and the scene that they show: scenes are never torn apart."""

    sharp: Path
    blurred: Path
    scene: str


def find_pairs(root: Path, variant: str | None, eval_seed: int) -> dict[str, list[Pair]]:
    """The pairs of `train`, `val` and `test` in a folder.

    Three layouts are told from each other. RealBlur's: lists `RealBlur_J_train_list.txt` and `..._test_list.txt`, each
    line the paths of a sharp and a blurred picture. Else folders `blur` (`blurred`, `input`) beside `sharp` (`gt`,
    `target`), at any depth, with equal names in both: GoPro's, where each scene has such two, and two alone. Of two
    alone, every pair is a scene.

    Folders (of RealBlur lists) of `train`, `val` and `test` are these splits, and where there is one of them nothing
    else counts. A missing `val` or `test` is a tenth of the training scenes, chosen by `eval_seed`. Without pairs for
    training, `val` alone is also `test`, and `val` is empty beside `test` alone.

    Args:
        root: the folder.
        variant: another name of the folders of blurred pictures (GoPro's `blur_gamma`), or which of RealBlur's lists
            (`J` or `R`); None: the usual ones.
        eval_seed: chooses the scenes.

    Raises:
        UsageError: there are no pairs, too few, none in a split that is there, or some that do not match.
    """
    lists = [match for file in sorted(root.glob("RealBlur_*_list.txt")) if (match := _LIST.fullmatch(file.name))]
    if lists:
        return _split(root, _listed(root, lists, variant), eval_seed)
    parts = [split for split in SPLITS if (root / split).is_dir()]
    named = {split: _beside(root / split, variant) for split in parts} or {"train": _beside(root, variant)}
    for split, pairs in named.items():
        if not pairs:
            blurred = " or ".join(BLURRED if variant is None else [variant])
            where, other = (f"its folder {split} ", "") if parts else ("", "RealBlur_*_list.txt, or ")
            known = f"{other}folders {blurred} beside {' or '.join(SHARP)}, at any depth"
            raise UsageError(f"data.root={root}: {where}has no pairs; known are {known}")
    return _split(root, named, eval_seed)


def _listed(root: Path, lists: Sequence[re.Match[str]], variant: str | None) -> dict[str, list[Pair]]:
    kinds = sorted({match[1] for match in lists})
    if variant is None and len(kinds) > 1:
        raise UsageError(f"data.variant=null: must be one of {', '.join(kinds)}, {root} has the lists of all")
    if variant is not None and variant not in kinds:
        raise UsageError(f"data.variant={variant}: {root} has lists of {', '.join(kinds)}{nearest(variant, kinds)}")
    return {match[2]: _read_list(root, root / match[0]) for match in lists if match[1] == (variant or kinds[0])}


def _read_list(root: Path, file: Path) -> list[Pair]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    pairs = []
    for number, words in enumerate(map(str.split, lines), 1):
        if not words:
            continue
        if len(words) < 2:
            raise UsageError(f"{file}, line {number}: must be the paths of a sharp and a blurred picture")
        sharp, blurred = (root / word for word in words[:2])
        for picture in (sharp, blurred):
            if not picture.is_file():
                raise UsageError(f"{file}, line {number}: there is no {picture}")
        pairs.append(Pair(sharp, blurred, str(blurred.parent.parent)))
    if not pairs:
        raise UsageError(f"{file}: has no pairs; must have lines with the paths of a sharp and a blurred picture")
    return pairs


def _beside(base: Path, variant: str | None) -> list[Pair]:
    """The pairs of all folders of blurred pictures that lie beside one of sharp ones, at or below the base."""
    found = []
    for place in folders_in(base):
        blurred, sharp = (
            next((place / name for name in names if (place / name).is_dir()), None)
            for names in (BLURRED if variant is None else (variant,), SHARP)
        )
        if blurred is not None and sharp is not None:
            found.append((place, _matched(blurred, sharp)))
    if len(found) == 1:
        return [pair._replace(scene=str(pair.blurred)) for pair in found[0][1]]
    return [pair._replace(scene=str(place)) for place, pairs in found for pair in pairs]


def _matched(blurred: Path, sharp: Path) -> list[Pair]:
    """The pairs of pictures with the same names in both folders; their kinds of file may differ."""
    ours, theirs = _pictures(blurred), _pictures(sharp)
    if len(ours) != len(theirs):
        raise UsageError(f"{blurred}: has {len(ours)} pictures, {sharp} {len(theirs)}; every pair needs both")
    for name, file in ours.items():
        if name not in theirs:
            raise UsageError(f"{file}: {sharp} has no picture of its name")
    return [Pair(theirs[name], file, "") for name, file in ours.items()]


def _pictures(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files_in(folder, SUFFIXES):
        name = str(file.relative_to(folder).with_suffix(""))
        if name in found:
            raise UsageError(f"{file}: {found[name].name} has the same name; which of them belongs to the pair?")
        found[name] = file
    return found


def _split(root: Path, named: Mapping[str, list[Pair]], eval_seed: int) -> dict[str, list[Pair]]:
    splits = {split: list(named.get(split, [])) for split in SPLITS}
    if "train" not in named and "test" not in named:
        splits["test"] = list(named["val"])
    missing = [split for split in SPLITS[1:] if split not in named]
    for split in missing if "train" in named else ():
        scenes = sorted({pair.scene for pair in splits["train"]})
        if len(scenes) < 2:
            raise UsageError(f"data.root={root}: has too few scenes for train, val and test: {len(scenes)} are left")
        order = torch.randperm(len(scenes), generator=generator("pairs", eval_seed, split)).tolist()
        chosen = {scenes[number] for number in order[: max(1, round(_SHARE * len(scenes)))]}
        splits[split] = [pair for pair in splits["train"] if pair.scene in chosen]
        splits["train"] = [pair for pair in splits["train"] if pair.scene not in chosen]
    return splits
