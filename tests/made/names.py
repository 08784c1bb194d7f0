"""What files and pictures say of whose images they are of."""

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib.figure
import PIL.Image
import pytest
from matplotlib.text import Text

EMBEDDED = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All words that are drawn into pictures from now on: pixels cannot be searched for them."""
    words: list[str] = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure: matplotlib.figure.Figure, *args: object, **options: object) -> None:
        words.extend(text.get_text() for text in figure.findobj(Text))
        save(figure, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return words


def assert_nameless(folder: Path, names: Iterable[str], drawn: Iterable[str] = ()) -> None:
    """No file below `folder` is called by one of the names or holds one in its bytes, nor does what was drawn."""
    secrets = [name.encode() for name in names]
    assert all(len(secret) > 6 for secret in secrets), "a short one stands in any binary file by chance"
    for what, content in (*_written(folder), ("drawn", "\n".join(drawn).encode())):
        found = [secret for secret in secrets if secret in content]
        assert not found, f"{what}: {found}"


def _written(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        shown = path.relative_to(folder).as_posix()
        yield f"the name of {shown}", shown.encode()
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield shown, content
        for picture in EMBEDDED.findall(content):
            yield f"a picture in {shown}", base64.b64decode(picture)
        if path.suffix == ".png":
            with PIL.Image.open(path) as image:
                yield f"the text of {shown}", repr(image.info).encode()
