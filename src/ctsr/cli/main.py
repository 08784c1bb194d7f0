"""`ctsr COMMAND …`: the table of commands; reads flags, runs the command, turns errors into one line and a status."""

import atexit
import contextlib
import dataclasses
import difflib
import errno
import importlib
import io
import os
import sys
import threading
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import tyro

from ctsr import __version__
from ctsr.cli.console import Console
from ctsr.cli.flags import canonical, config_flags, flags_of, help_text, usage_error, with_flags
from ctsr.cli.options import Common, gathered, given_names, idle_flags, resolved, with_native_paths
from ctsr.errors import CtsrError, DomainError, UsageError
from ctsr.files import FULL, REFUSED
from ctsr.paths import VARIABLE, cache_place, native_path
from ctsr.reporting import one_line

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

SCRIPTS = {
    "preprocess_resample_ct.py": "preprocess",
    "dump_patient_split.py": "split",
    "train_ct_sr.py": "train",
    "finetune_ct_sr.py": "finetune",
    "evaluate_ct_model.py": "evaluate",
    "visualize_lr_hr.py": "view",
    "visualize_lr_sr_hr.py": "view",
}
"""The scripts in `ESRGAN/` and the command that each is another name for."""

SCRIPT_FLAGS = {"visualize_lr_hr.py": ("--no_model",)}
"""Flags that a script's name implies."""


class Options(Protocol):
    """What every command's options dataclass offers."""

    common: Common

    def run(self, console: Console) -> int:
        """Do the work and return the exit status."""
        ...


def entry() -> None:
    """The console script `ctsr`."""
    _leave(main(sys.argv[1:]))


def script(file: str) -> None:
    """One of the scripts in `ESRGAN/`: another name for a command, told by the script's own file name."""
    name = Path(file).name
    _leave(run_command(SCRIPTS[name], [*SCRIPT_FLAGS.get(name, ()), *sys.argv[1:]], prog=f"python {name}"))


def _leave(status: int) -> NoReturn:
    """Exit; where a full disk refuses the output, without a traceback of the interpreter's."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        status = status or FAILED
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others and all(thread.daemon for thread in others):
        # Those that compute are stopped by the interpreter as it goes, and PyTorch then aborts ("terminate called
        # without an active exception", SIGABRT), after all that was asked for was done. So the process ends before it.
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed, or full, or not there
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _drop_output() -> None:
    """Send what is still to be printed nowhere, not even while the interpreter closes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str]) -> int:
    """Run `ctsr` with these arguments and return its exit status."""
    console = Console()
    if not argv or argv[0] in {"-h", "--help"}:
        console.print(overview())
        return OK if argv else WRONG_USAGE
    if argv[0] in {"--version", "-V"}:
        console.print(f"ctsr {__version__}")
        return OK
    if argv[0] == "help":
        return main([*argv[1:2], "--help"])
    return run_command(argv[0], argv[1:], prog=f"ctsr {argv[0]}")


def overview() -> str:
    """What `ctsr --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [
        "CT super-resolution, from DICOM to DICOM.",
        "",
        "usage: ctsr COMMAND [flags]     ctsr help COMMAND     ctsr --version",
        "",
        "Three lines to a sharper series:",
        "  ctsr scan EXAMS                    what is there",
        "  ctsr upscale EXAMS sharper         with a model that comes with ctsr",
        "  ctsr view EXAMS/patient1           look at LR, SR and HR side by side",
        "",
        *(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS.values()),
        "",
        "A model of your own:",
        "  ctsr preprocess EXAMS              resampled to one spacing, into preprocessed_data",
        "  ctsr train",
        "  ctsr evaluate --split test",
        "",
        "No data at hand: ctsr demo",
    ]
    return "\n".join(lines)


def run_command(name: str, argv: list[str], *, prog: str) -> int:
    """Run one command; errors a user can put right become one line, with a traceback only under ``--debug``."""
    console = Console()
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        console.error(f"ctsr has no command {name!r}; {hint}")
        return WRONG_USAGE
    if "-h" in argv or "--help" in argv:
        console.print(help_text(options_class(COMMANDS[name]), COMMANDS[name].basic.split(), prog))
        return OK
    debug = "--debug" in argv
    if not _has_folder():  # libraries that are loaded later would end the process with words of their own
        console.error("the folder that this was called in is gone; change into another one")
        return FAILED
    try:
        flags = list(flags_of(options_class(COMMANDS[name])))
        console.spelling = partial(with_flags, flags=flags)
        options = parse(COMMANDS[name], argv, prog=prog)
        typed = given_names(canonical(argv, options_class(COMMANDS[name])))
        for line in idle_flags(name, typed, resolved(options)):
            console.note(f"warning: {line}")
        _place_cache(COMMANDS[name], options.common.cache_dir, console)
        status = options.run(console)
        console.repeat_device()
        return status
    except BrokenPipeError:
        _drop_output()  # whoever was reading it has read enough
        return FAILED
    except (CtsrError, OSError) as error:
        if debug:
            raise
        console.error(_of_system(error) if isinstance(error, OSError) else one_line(error))
        return WRONG_USAGE if isinstance(error, UsageError | DomainError) else FAILED
    except KeyboardInterrupt:
        if debug:
            raise
        console.error("interrupted")
        return INTERRUPTED


def _has_folder() -> bool:
    """Whether the working folder is still there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _of_system(error: OSError) -> str:
    """File, what the system answered, and the remedy where there is one."""
    said = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else one_line(error)
    if error.errno in FULL:
        return f"{said}; the disk is full: make room, or write elsewhere"
    if error.errno == errno.ENAMETOOLONG:
        return f"{said}; choose a shorter name"
    if error.errno in REFUSED:
        return f"{said}; this user may not read or write there: name another folder, or change its permissions"
    return said


def _place_cache(command: "Command", folder: Path | None, console: Console) -> None:
    """Put the cache where the user wants it, in the processes of this command too, and say where else it is."""
    if folder is not None:
        os.environ[VARIABLE] = str(folder.absolute())
    if command.caches and (note := cache_place().note):
        console.note(note)


@dataclass(frozen=True)
class Command:
    """One command of the command line; its module is imported only when it runs."""

    name: str
    module: str
    options: str
    """The dataclass in `module` whose fields are the flags and whose `run` does the work."""
    summary: str
    basic: str = ""
    """Names of the flags that its help shows first, separated by spaces."""
    caches: bool = False
    """Whether it keeps something in the user's cache."""


def parse(command: Command, argv: list[str], *, prog: str) -> Options:
    """The command's options from its flags and, under them, from the file that ``--config`` names.

    Raises:
        UsageError: a flag is unknown, a value does not fit, or an argument is missing.
    """
    kind = options_class(command)
    path = _config_path(argv)
    flags = [*(config_flags(native_path(path), kind) if path else []), *gathered(canonical(argv, kind))]
    marked = tyro.conf.OmitArgPrefixes[tyro.conf.DisallowNone[kind]]
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report):
            parsed = tyro.cli(marked, args=flags, prog=prog, use_underscores=True)
    except SystemExit as end:
        if not report.getvalue():
            raise
        raise UsageError(usage_error(report.getvalue(), kind, prog)) from end
    options = with_native_paths(parsed)
    switches = frozenset(flag.name for flag in flags_of(kind) if flag.is_switch)
    common = dataclasses.replace(options.common, given=given_names(flags, switches))
    return dataclasses.replace(cast("Any", options), common=common)


def options_class(command: Command) -> type[Options]:
    """The options dataclass of a command; imports its module."""
    return cast("type[Options]", getattr(importlib.import_module(command.module), command.options))


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "upscale",
            "ctsr.cli.upscale",
            "Upscale",
            "super-resolve CT series with a model, DICOM to DICOM",
            basic="model_path strength only series target_spacing format overwrite device jobs",
            caches=True,
        ),
        Command(
            "node",
            "ctsr.cli.upscale",
            "Node",
            "receive series as a DICOM node, upscale them and send the results on",
            basic="aet host port send_to allow queue list retry model_path strength device",
            caches=True,
        ),
        Command("scan", "ctsr.cli.exams", "Scan", "list patients, series and what is wrong with them"),
        Command(
            "preprocess",
            "ctsr.cli.exams",
            "Preprocess",
            "resample every series to one in-plane pixel spacing",
            basic="root out_dir target_spacing",
        ),
        Command("split", "ctsr.cli.exams", "Split", "divide the patients into train, val and test"),
        Command(
            "train",
            "ctsr.cli.training",
            "Train",
            "train a generator with L1 loss",
            basic="data_root scale arch epochs batch_size patch_size lr degradation device resume seed",
            caches=True,
        ),
        Command(
            "finetune",
            "ctsr.cli.training",
            "Finetune",
            "go on with perceptual and adversarial losses (ESRGAN)",
            basic="data_root pretrained_g out_dir epochs batch_size patch lr lambda_perc lambda_gan device resume seed",
            caches=True,
        ),
        Command(
            "evaluate",
            "ctsr.cli.training",
            "Evaluate",
            "measure a model against interpolation, by patient",
            basic="root split model_path output_dir preset windows metrics max_patients device jobs",
            caches=True,
        ),
        Command(
            "view",
            "ctsr.cli.training",
            "View",
            "look at LR, interpolations, SR and HR side by side",
            basic="model_path preset plane index eval_summary snapshot device",
            caches=True,
        ),
        Command("physics", "ctsr.cli.physics", "Physics", "measure MTF and noise of a real scan of a phantom"),
        Command("export", "ctsr.cli.models", "Export", "write a model as ONNX, OpenVINO, TorchScript, safetensors"),
        Command(
            "quantize",
            "ctsr.cli.models",
            "Quantize",
            "quantize a model to 8-bit integers, for fast inference on a CPU",
            basic="data_root steps out overwrite",
            caches=True,
        ),
        Command("blend", "ctsr.cli.models", "Blend", "mix two generators: how much fine-tuning is wanted"),
        Command("cache", "ctsr.cli.machine", "Cache", "show what is kept between runs, or remove it", caches=True),
        Command("models", "ctsr.cli.models", "Models", "list the models that come with ctsr, or show one's card"),
        Command(
            "weights",
            "ctsr.cli.models",
            "Weights",
            "list, fetch or find weights of VGG, AlexNet, LPIPS, NIQE",
            caches=True,
        ),
        Command("params", "ctsr.cli.models", "Params", "count a network's parameters, operations and memory"),
        Command("doctor", "ctsr.cli.machine", "Doctor", "report what works on this machine"),
        Command("demo", "ctsr.cli.machine", "Demo", "run the whole job on a built-in synthetic sample", caches=True),
    )
}


def _config_path(argv: list[str]) -> str | None:
    found = {after for word, after in pairwise(argv) if word == "--config"}
    found |= {word.removeprefix("--config=") for word in argv if word.startswith("--config=")}
    if len(found) > 1:
        raise UsageError(f"--config names {' and '.join(sorted(found))}; put all flags into one file")
    return next(iter(found), None)
