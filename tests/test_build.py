"""Objects from configs: what the constructor takes is its schema, and no config runs code that it names."""

from __future__ import annotations

import fractions
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deblur.blur import Kernels, Line, Shake
from deblur.build import EVERYTHING, build, constructor_parameters, find_class, trusting
from deblur.errors import UsageError, check_number
from deblur.models import CNN, UNet


def target(name: str, **settings: object) -> dict[str, object]:
    return {"_target_": name, **settings}


def refusal(config: dict[str, object], path: str = "model", **arguments: object) -> str:
    with pytest.raises(UsageError) as refused:
        build(config, path, **arguments)
    message = str(refused.value)
    assert "\n" not in message
    return message


# What is built.


def test_config_becomes_the_object_with_its_settings():
    blur = build(target("deblur.blur.Shake", length=[3, 5], anxiety=0.5, registration="start", noise=0.1), "blur")
    assert type(blur) is Shake
    assert blur.length == (3, 5)
    assert blur.anxiety == 0.5
    assert blur.registration == "start"
    assert blur.noise == (0.1, 0.1)


def test_class_is_found_in_its_own_module_too():
    assert type(build(target("deblur.models.unet.UNet", widths=[4], blocks=[0]), "model")) is UNet


def test_arguments_beside_the_config_are_passed_on():
    optimizer = build(target("torch.optim.SGD", lr=0.5), "optimizer", params=[nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 0.5


def test_nested_configs_are_built_first_also_in_lists_and_mappings():
    data = build(target("deblur.data.digits.MNIST", blur=target("deblur.blur.Line", length=3), root="nowhere"), "data")
    assert type(data.blur) is Line
    loss, network = target("torch.nn.L1Loss"), target("deblur.models.CNN", width=4)
    listed = build(target("torch.nn.ModuleList", modules=[loss, network]), "model")
    assert [type(module) for module in listed] == [nn.L1Loss, CNN]
    mapped = build(target("torch.nn.ModuleDict", modules={"loss": loss, "network": network}), "model")
    assert {name: type(module) for name, module in mapped.items()} == {"loss": nn.L1Loss, "network": CNN}


def test_config_is_not_changed():
    config = target("deblur.blur.Line", length=3)
    build(config, "blur")
    assert config == target("deblur.blur.Line", length=3)


@pytest.mark.parametrize(
    "name", ["deblur.models.CNN", "torch.nn.L1Loss", "torch.nn.Conv2d", "torch.nn.modules.loss.MSELoss"]
)
def test_classes_of_deblur_and_modules_of_torch_are_trusted(name):
    assert issubclass(find_class(target(name), "model"), nn.Module)


@pytest.mark.parametrize("name", ["torch.optim.AdamW", "torch.optim.sgd.SGD", "torch.optim.lr_scheduler.StepLR"])
def test_classes_of_torch_optim_are_trusted(name):
    assert find_class(target(name), "optimizer").__name__ == name.split(".")[-1]


# What is not trusted.


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.type",
        "pathlib.Path",
        "fractions.Fraction",
        "torch.hub.load",
        "torch.load",
        "torch.nn.functional.relu",
        "torch.Tensor",
        "torch.Generator",
        "torch.utils.data.DataLoader",
        "torch.nn.Parameter",
        "torch.serialization.os.system",
        "torch.nn.init.kaiming_normal_",
        "deblur.build.build",
        "deblur.load",
        "deblur.seeding.generator",
        "deblur.seeding.torch.Generator",
        "deblur.data.idx.Path",
        "deblur.data.idx.gzip.GzipFile",
        "deblur.data.download.socket.socket",
        "deblur.blur.Shake.draw",
        "deblur.data.download.DEADLINE_SECONDS",
        "torch",
        "deblur.blur",
        "CNN",
        "",
        ".os.system",
        "deblur..CNN",
        "deblur.blur.",
        None,
        7,
        ["deblur.models.CNN"],
    ],
)
def test_anything_else_is_refused_by_its_path(name):
    assert refusal(target(name), "model").startswith("model._target_=")


def test_config_without_a_target_is_refused():
    assert refusal({"width": 8}).startswith("model._target_=null")


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "pathlib.Path"])
def test_nested_targets_are_judged_like_the_outer_one(name):
    bad = target(name)
    assert "data.blur._target_=" in refusal(target("deblur.data.digits.MNIST", blur=bad), "data")
    assert "model.widths[1]._target_=" in refusal(target("deblur.models.UNet", widths=[8, bad]))
    assert "model.widths.deep[0]._target_=" in refusal(target("deblur.models.UNet", widths={"deep": [bad]}))


def test_refused_target_is_neither_imported_nor_called(tmp_path):
    (tmp_path / "hostile.py").write_text("print('imported')\nclass Network:\n    print('made')\n")
    code = (
        "from deblur.build import build\n"
        "try: build({'_target_': 'hostile.Network'}, 'model')\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["UsageError"]


def test_trusted_package_is_allowed_within_the_block_only():
    config = target("fractions.Fraction")
    assert "allow=[fractions]" in refusal(config)
    with trusting("fractions"):
        assert build(config, "model") == fractions.Fraction(0)
        assert "not trusted" in refusal(target("decimal.Decimal"))
        with trusting("decimal"):
            assert find_class(target("fractions.Fraction"), "model") is fractions.Fraction
            assert find_class(target("decimal.Decimal"), "model").__name__ == "Decimal"
    assert "not trusted" in refusal(config)


def test_trust_ends_also_after_an_error():
    with pytest.raises(KeyError), trusting("fractions"):
        raise KeyError
    assert "not trusted" in refusal(target("fractions.Fraction"))


def test_package_is_judged_by_where_the_class_comes_from():
    with trusting("logging"):
        assert "not trusted" in refusal(target("logging.Template"))  # string.Template by another name
        assert find_class(target("logging.Formatter"), "x").__name__ == "Formatter"


@pytest.mark.parametrize("name", ["torch.utils.data.DataLoader", "torch.hub.load", "torch.Generator"])
def test_trust_in_torch_adds_nothing_to_what_is_always_trusted(name):
    with trusting("torch"):
        assert refusal(target(name)).startswith("model._target_=")


def test_what_the_user_typed_may_name_any_class_but_no_function():
    with trusting(EVERYTHING):
        assert build(target("string.Template", template="$a"), "model").substitute(a=1) == "1"
        assert "must be a class" in refusal(target("os.system"))
        assert "must be a class" in refusal(target("torch.hub.load"))
        assert "there is no package no_such_package" in refusal(target("no_such_package.Network"))
        assert "has no Fractoin; did you mean Fraction?" in refusal(target("fractions.Fractoin"))


def test_relative_import_path_is_refused():
    with trusting(EVERYTHING):
        refusal(target(".models.CNN"))


def test_class_made_by_new_takes_its_keys():
    with trusting("fractions"):
        assert build(target("fractions.Fraction", numerator=3, denominator=4), "model") == fractions.Fraction(3, 4)


def test_constructor_of_another_library_that_takes_any_key_gets_it():
    with trusting("argparse"):
        assert build(target("argparse.Namespace", width=3), "model").width == 3


# What is refused of what is trusted.


@pytest.mark.parametrize(
    ("name", "key", "suggested"),
    [
        ("deblur.models.UNet", "width", "widths"),
        ("deblur.models.CNN", "dept", "depth"),
        ("deblur.blur.Shake", "lenght", "length"),
        ("deblur.blur.Shake", "paddin", "padding"),  # of the base class, passed on
        ("deblur.blur.Line", "registraton", "registration"),
        ("deblur.data.digits.FashionMNIST", "batchsize", "batch_size"),
        ("torch.nn.HuberLoss", "dleta", "delta"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_one(name, key, suggested):
    assert f"model.{key}=5: no such key; did you mean {suggested}?" in refusal(target(name, **{key: 5}))


def test_unknown_key_is_refused_with_all_that_there_are():
    message = refusal(target("deblur.models.CNN", zzz=5))
    assert "did you mean" not in message
    assert all(name in message for name in constructor_parameters(CNN))


def test_argument_that_is_no_part_of_the_config_cannot_be_set_there():
    assert "optimizer.params=" in refusal(target("torch.optim.SGD", params=[], lr=0.1), "optimizer", params=[])


@pytest.mark.parametrize(
    ("name", "missing"), [("deblur.data.kernel_file.KernelFile", "path"), ("torch.nn.Linear", "in_features")]
)
def test_missing_key_is_named(name, missing):
    assert refusal(target(name)).startswith(f"model.{missing}: missing")


def test_refused_value_is_named_with_its_path():
    message = refusal(target("deblur.blur.Shake", length=-3), "blur")
    assert message == "blur.length=-3: must be a number >= 0, or [min, max] of such with min <= max"


@pytest.mark.parametrize("value", ["long", float("nan"), float("inf"), True, [1e-3]])
def test_other_libraries_are_not_given_what_is_no_number(value):
    parameters = [nn.Parameter(torch.zeros(1))]
    message = refusal(target("torch.optim.AdamW", lr=value), "optimizer", params=parameters)
    assert message.startswith("optimizer.lr=")
    assert "number" in message


def test_other_libraries_are_not_given_what_is_no_flag():
    parameters = [nn.Parameter(torch.zeros(1))]
    assert "optimizer.nesterov=1: must be true or false" in refusal(
        target("torch.optim.SGD", lr=0.1, nesterov=1), "optimizer", params=parameters
    )


def test_what_another_library_refuses_is_one_line():
    parameters = [nn.Parameter(torch.zeros(1))]
    message = refusal(target("torch.optim.SGD", lr=-1), "optimizer", params=parameters)
    assert message.startswith("optimizer: SGD refuses lr=-1: Invalid learning rate")


def test_error_in_our_own_code_is_not_disguised_as_a_mistake_of_the_user():
    with pytest.raises(AttributeError):
        build(target("deblur.blur.Kernels", psfs="no tensor"), "blur")


def test_parameters_are_those_of_the_class_and_of_what_it_passes_on_to():
    assert list(constructor_parameters(Shake)) == [
        *("length", "anxiety", "points", "registration", "padding", "noise", "camera")
    ]
    assert list(constructor_parameters(Kernels)) == ["psfs", "registration", "padding", "noise", "camera"]


# The checks of single values.


no_numbers = st.one_of(st.text(), st.booleans(), st.none(), st.lists(st.integers()))


@given(st.one_of(no_numbers, st.floats(max_value=0), st.just(float("nan"))))
def test_check_number_refuses_all_but_finite_numbers_in_range(value):
    with pytest.raises(ValueError, match=r"^name=.*must be a number"):
        check_number("name", value, above=0.0)


@given(st.one_of(st.floats(-5, 5), st.integers(-5, 5)))
def test_check_number_gives_floats_in_range(value):
    checked = check_number("name", value, low=-5, high=5)
    assert type(checked) is float
    assert checked == value


def test_number_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match="must be"):
        check_number("name", 10**400)
