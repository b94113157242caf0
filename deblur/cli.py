"""The doors' common part: Hydra's command line, with errors of one line and exit code 2. Imports no torch."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from logging.handlers import MemoryHandler
from pathlib import Path
from string import Template
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from deblur.errors import UsageError, nearest, shown

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# Settings that are paths: quoted before Hydra's grammar sees them, so that every path can be typed as it is.
_PATHS = {"run", "runs", "resume", "init", "input", "output", "output_root", "data.root", "blur.path", "pairs", "psf"}
_PATHS |= {"estimator", "task.estimator"}
_UNUSED = ("hydra.run.", "hydra.sweep.", "hydra.output_subdir", "hydra.job.chdir", "hydra.mode")


def _options(*groups: str) -> str:
    """A line for each group of the config with its options; `${options:blur,data}` in a help text."""
    names = {group: sorted(file.stem for file in (CONFIGS / group).glob("*.yaml")) for group in groups}
    return "\n".join(f"{group}: {', '.join(options)}" for group, options in names.items())


OmegaConf.register_new_resolver("options", _options, replace=True)


def door(config_name: str, task: str, check: str | None = None) -> None:
    """Run a command line: compose the config, call the task, exit with its code.

    Args:
        config_name: primary config in `configs/`.
        task: `module:function`; called with the composed settings, as plain containers, and the typed overrides.
        check: the same of what refuses wrong settings sooner than the task is imported; not for a sweep, which has its
            own; called with the settings.
    """
    # Threads that wait for each other go to sleep soon: on idle cores it costs nothing, on busy ones spinning threads
    # cost most of the speed. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over instead of printing a trace and exiting
    arguments = [as_override(argument, config_name, sweep=is_sweep(sys.argv)) for argument in sys.argv[1:]]
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))  # anywhere will do
    try:
        _refuse_unused(sys.argv[1:])
        if {"-h", "--help"} & set(sys.argv):
            code = _help(config_name, [argument for argument in sys.argv[1:] if not argument.startswith("-")])
        elif is_sweep(sys.argv):
            if config_name != "train":
                raise UsageError(f"-m: {config_name} does one thing at a time")
            from deblur.sweep import sweep

            code = sweep(config_name, task, sys.argv[1:])
        elif any(argument.startswith("-") for argument in arguments):
            code = _run_with_flags(config_name, task, check)
        else:
            code = _run(config_name, task, check, arguments)
    except UsageError as error:
        code = _say(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        code = _say(explain(error, config_name, sys.argv[1:]))
    except ValueError as error:
        if not str(error).startswith(("Config group override", "Only one of")):  # Hydra's own
            raise
        code = _say(_wrong_choice(sys.argv[1:]) or str(error))
    except KeyboardInterrupt:
        print("warning: interrupted by SIGINT", file=sys.stderr)
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # who read what is printed has seen enough, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def _help(config_name: str, overrides: Sequence[str]) -> int:
    """Print the help text, in which `$CONFIG` is the config's own file with its comments, and what its groups add.

    Hydra's own way to it first composes every option of every group, which takes a second.
    """
    config = compose(config_name, overrides, with_hydra=True)
    template = config.hydra.help.template
    text = (CONFIGS / f"{config_name}.yaml").read_text(encoding="utf-8")
    own = re.sub(r"\A(#.*\n)+|^(defaults|hydra):\n(( .*)?\n)*", "", text, flags=re.MULTILINE).strip()
    with open_dict(config):
        for key in ("hydra", *OmegaConf.create(own)):
            del config[key]
    chosen = OmegaConf.to_yaml(config) if config else ""  # by groups
    print(Template(template).safe_substitute(CONFIG=f"{own}\n{chosen}"))
    return 0


def _run(config_name: str, task: str, check: str | None, arguments: Sequence[str]) -> int:
    prepare_logging()
    settings, _ = settings_of(config_name, arguments)
    return _do(task, check, settings)


def _run_with_flags(config_name: str, task: str, check: str | None) -> int:
    """The same by Hydra's own way, which knows its flags and, to see whether it is to sweep, composes twice."""
    ended: list[int | Exception] = [0]

    def job(config: DictConfig) -> None:
        prepare_logging()
        try:
            ended[0] = _do(task, check, plain(config))
        except (UsageError, OmegaConfBaseException) as error:
            ended[0] = error  # raised below: Hydra would print a line of its own

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(job)()
    if isinstance(ended[0], Exception):
        raise ended[0]
    return ended[0]


def _do(task: str, check: str | None, settings: dict[str, Any]) -> int:
    if check is not None:
        call(check, settings)
    return call(task, settings, list(HydraConfig.get().overrides.task))


def call(task: str, *arguments: Any) -> Any:
    """What the task returns, its exit code, imported now: what only shows help or a config need not wait for torch."""
    module, _, function = task.partition(":")
    run: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return run(*arguments)


def plain(config: DictConfig) -> dict[str, Any]:
    """The config with its interpolations resolved, as plain containers.

    Raises:
        UsageError: a value is missing.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise UsageError(f"{min(missing)}: must be given")
    return OmegaConf.to_container(config, resolve=True)


def prepare_logging() -> None:
    """Messages to the screen, on the first process only; Lightning's own and warnings go to the run's log."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(_OneLine())
    first = all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    screen.addFilter(lambda record: first and record.name.split(".")[0] in ("deblur", "__main__"))
    root.addHandler(screen)
    root.addHandler(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1))  # for the run's log, once it has one
    logging.captureWarnings(True)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)


def make_console() -> Console:
    """The screen; wide enough for tables where there is none (a file, a pipe)."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=180)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return prefix + super().format(record)


def is_sweep(argv: Sequence[str]) -> bool:
    """Whether the command line asks for many runs, and not only for information."""
    flags = [argument for argument in argv[1:] if argument.startswith("-")]
    informs = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
    return bool({"-m", "--multirun"} & set(flags)) and not any(flag.split("=")[0] in informs for flag in flags)


def as_override(argument: str, config_name: str, sweep: bool = False) -> str:
    """What was typed, as an override that Hydra can follow with this config."""
    argument = space_override(quote_path(argument, sweep))
    if config_name == "evaluate":  # what it changes of a run's own blur and data is added to nothing
        return re.sub(r"^(blur|data)\.", r"++\1.", argument)
    return argument


def quote_path(argument: str, sweep: bool = False) -> str:
    """The override with its value quoted if it is a path; in a sweep, commas still separate several."""
    key, equals, value = argument.partition("=")
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if not equals or key.lstrip("+") not in _PATHS or value in ("", "null") or quoted:
        return argument
    parts = value.split(",") if sweep and not os.path.exists(os.path.expanduser(value)) else [value]
    return f"{key}=" + ",".join(quote(part) for part in parts)


def quote(value: str) -> str:
    """The text as a quoted value of Hydra's grammar."""
    # In Hydra's grammar backslashes count only before a quote: those there, and those at the end, are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return "'" + escaped.replace("${", "\\${") + "'"


def space_override(argument: str) -> str:
    """The override of a search's space as Hydra can follow it: settings' names hold dots, and more may be added."""
    end = re.fullmatch(r"\+*search\.space\.(.+)\.(type|low|high|log|step|choices)=(.*)", argument)
    if end:
        return f"++search.space={{{end[1]}:{{{end[2]}:{end[3]}}}}}"
    return f"++{argument}" if argument.startswith("search.space={") else argument


def _refuse_unused(arguments: Sequence[str]) -> None:
    if "LOCAL_RANK" in os.environ:
        return  # Lightning adds such settings to the command of the processes that it starts
    for argument in arguments:
        if argument.lstrip("+~").startswith(_UNUSED):
            raise UsageError(f"{argument}: set output_root=<folder>, and sweep.name=<name> for a sweep, instead")


def explain(error: Exception, config_name: str, arguments: Sequence[str]) -> str:
    """What Hydra found wrong with the command line, in one line: key, value and what is allowed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group and error.options is not None:
            return (
                f"{group}={option}: no such option{nearest(option, error.options)}; "
                f"{group} is one of {', '.join(error.options)}"
            )
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value: {shown(error.message.partition(chr(10))[0])}"
    if isinstance(error, ConfigCompositionException):
        for argument in arguments:
            key = argument.lstrip("+~").partition("=")[0].partition("@")[0]
            if f"'{key}'" in str(error) or argument in str(error):
                return f"{argument}: {_no_such_key(key, config_name, arguments) or shown(error)}"
    return shown(error)


def _wrong_choice(arguments: Sequence[str]) -> str | None:
    """Which choice of a group is no option at all: Hydra only says of what type it is."""
    for argument in filter(_is_choice, arguments):
        group, _, option = argument.lstrip("+").partition("=")
        options = sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))
        if option not in options:
            return f"{argument}: no such option{nearest(option, options)}; {group} is one of {', '.join(options)}"
    return None


def _no_such_key(key: str, config_name: str, arguments: Sequence[str]) -> str | None:
    """What keys there are beside the wrong one, in the config of the same choices."""
    try:
        groups = [argument for argument in arguments if _is_choice(argument)]
        config = compose(config_name, groups)
    except (HydraException, OmegaConfBaseException):
        return None
    parent, _, leaf = key.rpartition(".")
    section = OmegaConf.select(config, parent) if parent else config
    group = parent.replace(".", "/")
    if section is None and (CONFIGS / group).is_dir():
        return f"no such key, {parent} is off; {_options(group).replace(': ', ' is one of ')}"
    if not isinstance(section, Mapping | DictConfig):
        return None
    known = [str(name) for name in section if name not in ("_target_", "hydra")]
    if leaf in known:
        return None
    sections = OmegaConf.to_container(config, resolve=False).items()
    homes = {str(name): top for top, values in sections if isinstance(values, Mapping) for name in values}
    close = get_close_matches(leaf, homes, n=1)
    hint = nearest(leaf, known) or (f"; did you mean {homes[close[0]]}.{close[0]}?" if close else "")
    return f"no such key{hint}; {parent or 'the config'} has {', '.join(known) or 'no keys'}"


def _is_choice(argument: str) -> bool:
    key, equals, _ = argument.partition("=")
    return bool(equals) and (CONFIGS / key.lstrip("+~")).is_dir()


def compose(config_name: str, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """The config of one job, as Hydra composes it."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(config_name, list(overrides), return_hydra_config=with_hydra)


def settings_of(config_name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """The settings of one job, resolved to plain containers, and the option that each group takes.

    Raises:
        UsageError: a value is missing.
    """
    config = compose(config_name, overrides, with_hydra=True)
    HydraConfig.instance().set_config(config)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return plain(config), choices


@contextmanager
def only_warnings_on_screen() -> Iterator[None]:
    """Within the block, messages reach the screen from warnings on; logs get all of them."""
    screens = [handler for handler in logging.getLogger().handlers if isinstance(handler.formatter, _OneLine)]
    before = [handler.level for handler in screens]
    for handler in screens:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(screens, before, strict=True):
            handler.setLevel(level)


def _say(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2
