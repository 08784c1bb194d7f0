"""Pages of the site that are made when it is built: the notebook, and the examples."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = "tutorials/first_steps.ipynb"
EXAMPLES = "examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    docs = Path(config.docs_dir)
    pages = {
        "tutorials/first_steps.md": notebook_page(json.loads((docs / NOTEBOOK).read_text(encoding="utf-8"))),
        "reference/examples.md": examples_page(sorted((docs / EXAMPLES).glob("*.py"))),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def notebook_page(notebook: dict[str, Any]) -> str:
    """Cells as Markdown: text as it is, code and printed output fenced, pictures inline."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![Output of the cell above](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif text := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    parts.append(f"*[The notebook]({Path(NOTEBOOK).name}) itself, to run it.*")
    return "\n\n".join(parts) + "\n"


def examples_page(paths: list[Path]) -> str:
    """Each example under its first line."""
    parts = [
        "# Examples\n\nEach is executed by `tests/docs/test_examples.py`. `EXAMS` holds a folder for each patient; "
        "`ctsr.example_volume` makes a synthetic chest."
    ]
    for number, path in enumerate(paths, start=1):
        title, _, code = path.read_text(encoding="utf-8").removeprefix('"""').partition('"""')
        parts.append(f"## {number}. {title.rstrip('.')}\n\n```python\n{code.strip()}\n```")
    return "\n\n".join(parts) + "\n"
