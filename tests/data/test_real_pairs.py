"""Pairs from files: every layout is found, both sides are cropped alike, and what does not match is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from deblur.blur import Camera, Line, NoBlur
from deblur.data.pair_layouts import find_pairs
from deblur.data.real_pairs import RealPairs
from deblur.errors import ArgumentError, UsageError
from deblur.evaluation.protocols import Condition, Test


def write(file: Path, seed: int, height: int = 40, width: int = 50) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def write_pair(sharp: Path, blurred: Path, seed: int) -> None:
    """A pair whose blurred picture is the negative of its sharp one: a crop tells whether the two belong together."""
    write(sharp, seed)
    blurred.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - np.asarray(Image.open(sharp))).save(blurred)


def gopro(root: Path) -> Path:
    for number in range(10):
        place = root / ("train" if number < 8 else "test") / f"GOPR{number // 2}"
        for blur in ("blur", "blur_gamma"):
            write_pair(place / f"sharp/{number:06}.png", place / f"{blur}/{number:06}.png", number)
        if number < 8:
            continue
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(place / f"blur_gamma/{number:06}.png")
    return root


def realblur(root: Path, kinds: str = "J") -> Path:
    for kind in kinds:
        lines = []
        for number in range(8):
            place = f"RealBlur-{kind}_ref/scene{number // 2:03}"
            pair = f"{place}/gt/gt_{number}.png", f"{place}/blur/blur_{number}.png"
            write_pair(root / pair[0], root / pair[1], number)
            lines.append(" ".join(pair) + " \n")
        (root / f"RealBlur_{kind}_train_list.txt").write_text("".join(lines[:6]) + "\n")
        (root / f"RealBlur_{kind}_test_list.txt").write_text("".join(lines[6:]))
    return root


def parallel(root: Path, blurred: str = "input", sharp: str = "target") -> Path:
    for number in range(12):
        write_pair(root / sharp / f"{number}.png", root / blurred / f"{number}.bmp", number)
    return root


LAYOUTS = {
    "gopro": (gopro, {"train": 6, "val": 2, "test": 2}),
    "realblur": (realblur, {"train": 4, "val": 2, "test": 2}),
    "input, target": (parallel, {"train": 10, "val": 1, "test": 1}),
    "blurred, gt": (lambda root: parallel(root, "blurred", "gt"), {"train": 10, "val": 1, "test": 1}),
}


def pairs_in(root: Path, **settings) -> RealPairs:
    return RealPairs(NoBlur(), root=str(root), **{"size": 16, "batch_size": 4, "crops": 2, "eval_crops": 2} | settings)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_and_its_pairs_belong_together(tmp_path, name):
    make, counts = LAYOUTS[name]
    data = pairs_in(make(tmp_path / "pairs"))
    assert {"train": len(data.images.train.photos)} == {"train": counts["train"]}
    for split in ("val", "test"):
        pairs = data.evaluation_pairs(split)[:]
        assert len(pairs.sharp) == 2 * counts[split]
        assert pairs.motion is None
        torch.testing.assert_close(pairs.blurred, 1 - pairs.sharp)
        assert len(pairs.sharp.unique(dim=0)) == len(pairs.sharp)


def test_training_crops_are_turned_alike_and_of_the_same_place(tmp_path):
    data = pairs_in(parallel(tmp_path / "pairs"), batch_size=20)
    views = [data.images.train.photos[number][:3].rot90(turn, (1, 2)) for number in range(10) for turn in range(4)]
    views += [view.flip(2) for view in views]
    (batch,) = data.train_dataloader()
    pairs = data.on_after_batch_transfer(batch, 0)
    assert pairs.sharp.shape == pairs.blurred.shape == (20, 3, 16, 16)
    torch.testing.assert_close(pairs.blurred, 1 - pairs.sharp)
    windows = torch.cat([view.unfold(1, 16, 1).unfold(2, 16, 1)[:, :, :, 0, 0].flatten(1).T for view in views])
    corners = (pairs.sharp[:, :, 0, 0] * 255).round().to(torch.uint8)
    assert all((windows == corner).all(1).any() for corner in corners)


def test_scenes_are_not_torn_apart_and_eval_seed_chooses_those_of_validation(tmp_path):
    root, chosen = gopro(tmp_path / "pairs"), set()
    for seed in range(6):
        data = pairs_in(root, eval_seed=seed)
        scenes = {pair.scene for pair in data.images.train.photos.pairs}
        assert len(scenes) == 3
        chosen.add(frozenset(scenes))
        assert torch.equal(data.images.val, pairs_in(root, eval_seed=seed, seed=1).images.val)
    assert len(chosen) > 1


def test_lists_of_realblur_are_the_splits_validation_too(tmp_path):
    root = realblur(tmp_path / "pairs")
    train, val = root / "RealBlur_J_train_list.txt", root / "RealBlur_J_val_list.txt"
    lines = train.read_text().splitlines(keepends=True)
    train.write_text("".join(lines[:4]))
    val.write_text("".join(lines[4:]))
    photos = find_pairs(root, None, 0)
    assert {split: len(pairs) for split, pairs in photos.items()} == {"train": 4, "val": 2, "test": 2}
    assert [pair.sharp.name for pair in photos["val"]] == ["gt_4.png", "gt_5.png"]


def test_named_parts_are_the_splits(tmp_path):
    for number, split in enumerate(("train", "train", "val", "test")):
        place = tmp_path / split
        write_pair(place / f"sharp/{number}.png", place / f"blur/{number}.png", number)
    images = pairs_in(tmp_path).images
    assert (len(images.train), len(images.val), len(images.test)) == (4, 2, 2)


@pytest.mark.parametrize("make", [gopro, realblur])
def test_a_folder_of_test_pairs_alone_is_evaluated_whole_and_not_trained_on(tmp_path, make):
    root = make(tmp_path / "pairs")
    if make is gopro:
        shutil.rmtree(root / "train")
    else:
        (root / "RealBlur_J_train_list.txt").unlink()
    data = pairs_in(root)
    assert len(Test().pairs(data, Condition({}, {}), None)) == len(data.evaluation_pairs("test")) == 2 * 2
    said = r"^data\.root=.*pairs: has no pairs for {}; must have a folder .*{}, or none of train, val and test$"
    for train in (data.train_dataloader, data.check_training_images, lambda: len(data.images.train)):
        with pytest.raises(UsageError, match=said.format("train", "train")):
            train()
    with pytest.raises(UsageError, match=said.format("val", "val")):
        data.evaluation_pairs("val")


def test_doors_evaluate_on_a_folder_of_test_pairs_alone_and_refuse_to_train(door, tmp_path):
    write_pair(tmp_path / "pairs/test/gt/1.png", tmp_path / "pairs/test/input/1.png", 1)
    data = ["data=pairs", "data.root=pairs", "data.size=16"]
    run = Path(__file__).parents[2] / "outputs/pretrained/shake"
    settings = {"config": "evaluate", "task": "deblur.evaluation.evaluate:evaluate"}
    ended = door(f"run={run}", *data, "data.channels=1", "metrics=[psnr]", "output=found", **settings)
    assert ended.code == 0, ended.err
    assert "test pairs, 4 images (crops of the pairs in pairs)" in ended.out
    for several in ([], ["-m", "seed=0,1"]):
        ended = door(*data, "model=cnn", *several)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
        assert "data.root=pairs: has no pairs for train; must have a folder" in ended.err
        assert not (tmp_path / "outputs").exists()


def test_whole_pictures_of_any_size_are_evaluated_one_by_one_and_not_trained_on(door, tmp_path):
    sides = [(40, 52), (33, 52), (40, 61)]
    for number, (height, width) in enumerate(sides):
        scene = tmp_path / f"pairs/test/scene{number}"
        write(scene / f"sharp/{number}.png", number, height, width)
        write(scene / f"blur/{number}.png", 10 + number, height, width)
    data = pairs_in(tmp_path / "pairs", size=None)
    assert data.image_shape == (3, 33, 52)
    pairs = data.evaluation_pairs("test")
    assert [pairs[n : n + 1].sharp.shape for n in range(3)] == [(1, 3, *size) for size in sides]
    with pytest.raises(UsageError, match=r"data\.size=null: the pictures differ in size"):
        pairs[:]
    run = Path(__file__).parents[2] / "outputs/pretrained/shake"
    settings = {"config": "evaluate", "task": "deblur.evaluation.evaluate:evaluate"}
    typed = ["data=pairs", "data.root=pairs", "data.size=null", "data.channels=1"]
    ended = door(f"run={run}", *typed, "metrics=[psnr]", "output=found", **settings)
    assert ended.code == 0, ended.err
    assert "test pairs, 3 images (whole pictures of the pairs in pairs)" in ended.out
    refused = door(f"run={run}", *typed, "metrics=[psf_correlation]", "output=other", **settings)
    assert refused.code == 2
    assert "metrics=psf_correlation: " in refused.err
    assert (
        len(list((tmp_path / "found").glob("*_images.png")))
        == len(list((tmp_path / "found").glob("*_spectra.png")))
        == 1
    )
    (file,) = (tmp_path / "found").glob("*.json")
    found = json.loads(file.read_text())["conditions"][0]["methods"]["blurred"]["metrics"]["psnr"]["mean"]
    expected = []
    for number in range(3):
        sharp, blurred = (
            Image.open(tmp_path / f"pairs/test/scene{number}/{kind}/{number}.png").convert("L")
            for kind in ("sharp", "blur")
        )
        expected.append(peak_signal_noise_ratio(np.asarray(sharp), np.asarray(blurred)))
    assert found == pytest.approx(np.mean(expected), abs=1e-3)
    ended = door(*typed, "model=cnn")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "data.size=null: whole pictures are to evaluate on; must be the side of the crops to train on" in ended.err


def test_folders_val_and_test_are_the_splits_without_one_of_training(tmp_path):
    for number, split in enumerate(("val", "val", "test", "other")):
        place = tmp_path / split
        write_pair(place / f"sharp/{number}.png", place / f"blur/{number}.png", number)
    for seed in range(3):
        data = pairs_in(tmp_path, eval_seed=seed)
        assert (len(data.images.val), len(data.images.test)) == (4, 2)
    shutil.rmtree(tmp_path / "test")
    data = pairs_in(tmp_path)
    assert len(data.evaluation_pairs("val")) == len(Test().pairs(data, Condition({}, {}), None)) == 4


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("variant", [None, "blur_gamma"])
def test_a_folder_of_a_split_without_pairs_is_refused(tmp_path, split, variant):
    root = gopro(tmp_path / "pairs")
    for file in [*root.glob(f"{split}/*/{variant or 'blur'}/*.png"), *root.glob(f"{split}/*/sharp/*.png")]:
        file.unlink()
    if split == "val":
        (root / "val").mkdir()
    else:
        write_pair(root / "val/sharp/1.png", root / f"val/{variant or 'blur'}/1.png", 1)
    blurred = variant or "blur or blurred or input"
    said = rf"^data\.root=.*: its folder {split} has no pairs; known are folders {blurred} beside sharp or gt or target"
    with pytest.raises(UsageError, match=said) as refused:
        _ = pairs_in(root, variant=variant).images
    assert "\n" not in str(refused.value)


def test_a_list_without_pairs_is_refused(tmp_path):
    root = realblur(tmp_path)
    (root / "RealBlur_J_test_list.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"RealBlur_J_test_list\.txt: has no pairs; must have lines"):
        _ = pairs_in(root).images


def test_links_are_followed_and_hidden_files_are_left_out(tmp_path):
    scenes, root = gopro(tmp_path / "disk"), tmp_path / "pairs"
    root.mkdir()
    for split in ("train", "test"):
        (root / split).symlink_to(scenes / split, target_is_directory=True)
    linked = scenes / "test/GOPR9"
    linked.mkdir()
    (linked / "around").symlink_to(scenes / "test", target_is_directory=True)
    for name in ("blur", "sharp"):
        (scenes / f"test/GOPR4/{name}").rename(tmp_path / name)
        (linked / name).mkdir()
        (linked / name / "inner").symlink_to(tmp_path / name, target_is_directory=True)
    for hidden in (scenes / "train/GOPR0/blur/._000000.png", scenes / "test/GOPR9/blur/.DS_Store.png"):
        hidden.write_bytes(b"no picture")
    shutil.copytree(scenes / "train/GOPR0", scenes / "train/.GOPR0")
    data = pairs_in(root)
    photos = data.images.train.photos
    assert len(photos) + len(data.images.val) // 2 == 8
    assert {pair.scene for pair in photos.pairs} < {str(root / f"train/GOPR{number}") for number in range(4)}
    assert len(data.images.test) == 4
    pairs = data.evaluation_pairs("test")[:]
    torch.testing.assert_close(pairs.blurred, 1 - pairs.sharp)


def test_the_other_blurred_pictures_are_taken_where_asked_for(tmp_path):
    gopro(tmp_path)
    pairs = pairs_in(tmp_path, variant="blur_gamma").evaluation_pairs("test")[:]
    assert pairs.blurred.abs().max() == 0
    both = realblur(tmp_path / "both", "JR")
    with pytest.raises(UsageError, match=r"data\.variant=null: must be one of J, R"):
        _ = pairs_in(both).images
    pair = pairs_in(both, variant="R").images.train.photos.pairs[0]
    assert "RealBlur-R_ref" in str(pair.blurred)


def test_grey_pairs_have_one_channel_and_pairs_are_kept_in_memory_up_to_a_limit(tmp_path):
    data = pairs_in(parallel(tmp_path / "pairs"), channels=1, cache_mb=0.01)
    assert data.image_shape == (1, 16, 16)
    assert data.evaluation_pairs("test")[:].sharp.shape == (2, 1, 16, 16)
    assert [data.images.train.photos[number].shape for number in range(10)] == [(2, 40, 50)] * 10
    assert len(data.images.train.photos._kept) == 2


def test_pairs_smaller_than_a_crop_are_left_out_or_refused(tmp_path, caplog):
    root = parallel(tmp_path / "pairs")
    for folder in ("input", "target"):
        write(root / folder / "small.png", 0, 12, 50)
    images = pairs_in(root, eval_seed=1).images
    assert len(images.train.photos) + len(images.val) // 2 + len(images.test) // 2 == 12
    assert "1 pairs smaller than 16 pixels are left out" in caplog.text
    with pytest.raises(UsageError, match=r"no pair for .* is as large as a crop, 41 pixels"):
        _ = pairs_in(root, size=41).images


def _missing(root: Path) -> None:
    (root / "target/3.png").unlink()


def _renamed(root: Path) -> None:
    (root / "target/3.png").rename(root / "target/three.png")


def _resized(root: Path) -> None:
    write(root / "target/3.png", 3, 30, 50)


def _text(root: Path) -> None:
    (root / "input/3.bmp").write_text("no picture")


def _twice(root: Path) -> None:
    write(root / "input/3.png", 3)


def _emptied(root: Path) -> None:
    for file in [*root.rglob("*.png"), *root.rglob("*.bmp")]:
        file.unlink()


def _one(root: Path) -> None:
    for number in range(1, 12):
        (root / f"input/{number}.bmp").unlink()
        (root / f"target/{number}.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing, r"input: has 12 pictures, .*target 11; every pair needs both"),
        (_renamed, r"input/3\.bmp: .*target has no picture of its name"),
        (_resized, r"input/3\.bmp: is of 40x50 pixels, its sharp picture .*target/3\.png of 30x50"),
        (_text, r"input/3\.bmp: cannot be read as a picture"),
        (_twice, r"input/3\.png: 3\.bmp has the same name"),
        (_emptied, r"data\.root=.*: has no pairs; known are RealBlur_.*input beside sharp or gt or target"),
        (_one, r"data\.root=.*: has too few scenes for train, val and test: 1 are left"),
    ],
)
def test_what_does_not_match_is_named_in_one_line(tmp_path, spoil, said):
    root = parallel(tmp_path / "pairs")
    spoil(root)
    with pytest.raises(UsageError, match=said) as refused:
        _ = pairs_in(root).images
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [("only_one.png", "line 3: must be the paths"), ("a.png b.png", r"line 3: there is no .*a\.png")],
)
def test_a_wrong_line_of_a_list_is_named(tmp_path, line, said):
    root = realblur(tmp_path)
    with (root / "RealBlur_J_test_list.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match=rf"RealBlur_J_test_list\.txt, {said}"):
        _ = pairs_in(root).images


def test_a_picture_cut_off_in_its_middle_is_named(tmp_path):
    root = parallel(tmp_path / "pairs", "blur", "sharp")
    for file in (root / "sharp").iterdir():
        file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(UsageError, match=r"sharp/\d+\.png: cannot be read as a picture"):
        _ = pairs_in(root).images


@pytest.mark.parametrize("blur", [Line(length=3), NoBlur(noise=0.1)], ids=["line", "noise"])
def test_no_other_blur_goes_with_pairs_that_are_blurred(tmp_path, blur):
    with pytest.raises(UsageError, match="blur: real pairs are blurred already"):
        RealPairs(blur, root=str(tmp_path))


def test_no_camera_goes_with_pairs_that_one_has_taken(tmp_path):
    with pytest.raises(UsageError, match=r"blur\.camera: a camera has taken real pairs already"):
        RealPairs(NoBlur(camera=Camera()), root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"), [("root", None), ("root", ""), ("variant", ""), ("size", 4), ("channels", 2)]
)
def test_refused_argument_is_named(tmp_path, name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}="):
        RealPairs(NoBlur(), **{"root": str(tmp_path), name: value})


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"data\.root=nowhere: must be a folder"):
        _ = pairs_in(Path("nowhere")).images
