"""The Dockerfile's steps, followed in a bare Debian: a container without a container engine.

Instead of the base image there is Debian's own Python in a virtual environment, and PyTorch comes from where pip's
settings on this machine say rather than from its makers' index. All else is the file's: what is copied, run and set,
and who runs it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.made.exams import save_patient
from tests.needs import needs, needs_program

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = REPOSITORY / "integrations" / "container" / "Dockerfile"
TORCH_INDEX = "--index-url https://download.pytorch.org/whl/cpu"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NETWORK = (Path("/etc/resolv.conf"), Path("/etc/hosts"))


class Image:
    """A root file system, made by a Dockerfile's steps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": "/opt/python/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        self.user = "0:0"
        self.entrypoint: list[str] = []

    def follow(self, instruction: str, rest: str) -> None:
        """Do what a line of the Dockerfile says."""
        match instruction:
            case "FROM":
                assert rest == "python:3.11-slim-bookworm", "what `debootstrap` makes stands for this image"
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self.copy(REPOSITORY / source, target)
            case "RUN":
                assert TORCH_INDEX in rest or "torch" not in rest
                self.shell(rest.replace(TORCH_INDEX, ""))
            case "ENV":
                self.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
            case "USER":
                self.user = rest
            case "ENTRYPOINT":
                self.entrypoint = re.findall(r'"(.*?)"', rest)
            case "CMD":
                pass
            case _:
                pytest.fail(f"the test knows no {instruction}")

    def copy(self, source: Path, target: str) -> None:
        place = self.root / target.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (place / source.name if target.endswith("/") else place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place / source.name if target.endswith("/") else place)

    def shell(self, command: str) -> None:
        """Run a step as root, with a network."""
        done = subprocess.run(
            ["chroot", str(self.root), "/bin/sh", "-c", command],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker run --read-only --tmpfs /tmp --network none`, with a volume at /out."""
        root = shlex.quote(str(self.root))
        mounts = f"mount --bind {root} {root} && mount --bind {root}/out {root}/out && mount -t tmpfs none {root}/tmp"
        mounts += f" && mount -t proc none {root}/proc"
        mounts += f" && chmod 1777 {root}/tmp && mount -o remount,ro,bind {root}"
        command = ["chroot", f"--userspec={self.user}", str(self.root), *self.entrypoint, *words]
        environment = {name: value for name, value in self.environment.items() if name != "HOME"}
        return subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", f"{mounts} && exec {shlex.join(command)}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if not os.environ.get("CTSR_CONTAINER"):
        pytest.skip("`make test-container` runs this: it downloads a Debian and PyTorch (minutes)")
    needs(os.geteuid() == 0, "run as root, who may change the root folder")
    debootstrap = needs_program("debootstrap", "debootstrap")
    root = tmp_path_factory.mktemp("image") / "root"
    bare = [debootstrap, "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm", str(root)]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    image = Image(root)
    with pip_as_here(root):
        image.shell("python3 -m venv /opt/python")
        for instruction, rest in instructions(DOCKERFILE.read_text()):
            image.follow(instruction, rest)
    yield image
    shutil.rmtree(root)


def instructions(text: str) -> list[tuple[str, str]]:
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in lines]


class pip_as_here:  # noqa: N801  (a context manager that reads as a phrase)
    """Lets pip in another root find what it finds here: network, certificates, settings and local folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounted: list[Path] = []

    def __enter__(self) -> None:
        for path in (*NETWORK, CERTIFICATES):
            if path.is_file():
                shutil.copyfile(path, self.root / path.relative_to("/"))
        words = [sys.executable, "-m", "pip", "config", "list"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True)
        settings: dict[str, str] = {}
        for line in listed.stdout.splitlines():
            name, value = line.split("=", 1)
            settings[name.rpartition(".")[2]] = value.strip("'")
        # The versions that the tests run with, a CPU build of PyTorch where there is one among the local files.
        shutil.copyfile(REPOSITORY / "constraints.txt", self.root / "etc" / "constraints.txt")
        settings["constraint"] = "/etc/constraints.txt"
        for word in " ".join(settings.values()).split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists() and not (self.root / path.relative_to("/")).exists():
                self.mount(path if path.is_dir() else path.parent)
        # Simple indexes beside files that their links lead to.
        lines = [f"{name} = {value}" for name, value in settings.items() if name not in {"env", "cache-dir"}]
        (self.root / "etc" / "pip.conf").write_text("\n".join(["[global]", *lines]))

    def mount(self, path: Path) -> None:
        # An index's pages link to files beside its folder.
        source = path.parent if path.name == "simple" else path
        target = self.root / source.relative_to("/")
        if target in self.mounted:
            return
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", "-o", "ro", str(source), str(target)], check=True)
        self.mounted.append(target)

    def __exit__(self, *_: object) -> None:
        for target in self.mounted:
            subprocess.run(["umount", str(target)], check=True)
        (self.root / "etc" / "pip.conf").unlink()


def test_the_image_upscales_as_any_user_with_nothing_but_its_volumes_to_write(image: Image) -> None:
    save_patient(image.root / "in", "P1", slices=2, size=48)
    (image.root / "out").mkdir()
    (image.root / "out").chmod(0o777)
    helped = image.run("--help")
    assert helped.returncode == 0, helped.stderr
    assert "upscale" in helped.stdout
    for user in (image.user, "54321:54321"):
        image.user = user
        out = f"/out/{user.partition(':')[0]}"
        done = image.run("upscale", "/in", out)
        assert done.returncode == 0, done.stdout + done.stderr
        made = list((image.root / out.lstrip("/")).rglob("*.dcm"))
        assert len(made) == 2
        assert dcmread(made[0]).Rows == 96
        assert made[0].stat().st_uid == int(user.partition(":")[0])
    refused = image.run("upscale", "/in", "/elsewhere")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert not (image.root / "elsewhere").exists()


def test_the_image_holds_what_its_page_promises(image: Image) -> None:
    said = image.run("doctor", "--no_timing").stdout
    for extra in ("fast", "node", "anonymize", "enhanced"):
        assert f"{extra}: installed" in said
    assert not (image.root / "src").exists()
