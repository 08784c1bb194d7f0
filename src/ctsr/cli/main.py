"""`ctsr VERB …`: finds the verb, reads its flags, runs it, and turns errors into one line and an exit status."""

import dataclasses
import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Protocol, cast

import tyro

from ctsr import __version__
from ctsr.cli.console import Console
from ctsr.cli.flags import canonical
from ctsr.cli.help import help_text
from ctsr.cli.options import Common, config_flags, gathered, given_names, with_native_paths
from ctsr.cli.verbs import SCRIPT_FLAGS, SCRIPTS, VERBS, Verb
from ctsr.errors import CtsrError, DomainError, UsageError
from ctsr.paths import native_path
from ctsr.text import one_line

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class Options(Protocol):
    """What every verb's options dataclass offers."""

    common: Common

    def run(self, console: Console) -> int:
        """Do the work and return the exit status."""
        ...


def entry() -> None:
    """The console script `ctsr`."""
    sys.exit(main(sys.argv[1:]))


def script(file: str) -> None:
    """One of the scripts in `ESRGAN/`: another name for a verb, told by the script's own file name."""
    name = Path(file).name
    sys.exit(run_verb(SCRIPTS[name], [*SCRIPT_FLAGS.get(name, ()), *sys.argv[1:]], prog=f"python {name}"))


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
    return run_verb(argv[0], argv[1:], prog=f"ctsr {argv[0]}")


def overview() -> str:
    """What `ctsr --help` prints."""
    width = max(map(len, VERBS))
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
        *(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values()),
        "",
        "A model of your own:",
        "  ctsr preprocess EXAMS              resampled to one spacing, into preprocessed_data",
        "  ctsr train",
        "  ctsr evaluate --split test",
        "",
        "No data at hand: ctsr demo",
    ]
    return "\n".join(lines)


def run_verb(name: str, argv: list[str], *, prog: str) -> int:
    """Run one verb; errors a user can put right become one line, with a traceback only under ``--debug``."""
    console = Console()
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(VERBS)}"
        console.error(f"ctsr has no command {name!r}; {hint}")
        return WRONG_USAGE
    if "-h" in argv or "--help" in argv:
        console.print(help_text(options_class(VERBS[name]), VERBS[name].basic.split(), prog))
        return OK
    debug = "--debug" in argv
    try:
        return parse(VERBS[name], argv, prog=prog).run(console)
    except BrokenPipeError:
        # Whoever was reading our output has read enough; say nothing, not even while the interpreter closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (CtsrError, OSError) as error:
        if debug:
            raise
        console.error(one_line(error))
        return WRONG_USAGE if isinstance(error, UsageError | DomainError) else FAILED
    except KeyboardInterrupt:
        if debug:
            raise
        console.error("interrupted")
        return INTERRUPTED


def parse(verb: Verb, argv: list[str], *, prog: str) -> Options:
    """The verb's options from its flags and, under them, from the file that ``--config`` names."""
    kind = options_class(verb)
    path = _config_path(argv)
    flags = [*(config_flags(native_path(path), kind) if path else []), *gathered(canonical(argv, kind))]
    marked = tyro.conf.OmitArgPrefixes[tyro.conf.DisallowNone[kind]]
    options = with_native_paths(tyro.cli(marked, args=flags, prog=prog, use_underscores=True))
    common = dataclasses.replace(options.common, given=given_names(flags))
    return dataclasses.replace(cast("Any", options), common=common)


def options_class(verb: Verb) -> type[Options]:
    """The options dataclass of a command; imports its module."""
    return cast("type[Options]", getattr(importlib.import_module(verb.module), verb.options))


def _config_path(argv: list[str]) -> str | None:
    for i, word in enumerate(argv):
        if word == "--config" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None
