"""What mkdocs needs to make a site of pages that are written to be read in the repository.

The first page is the README. Links into the repository (code, weights, examples) have no place in the site: they lead
to `REPOSITORY_URL` where the builder names one, and are plain text where not.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the decisions, which are many and grow, to the navigation."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert config.nav is not None
    config.nav.append({"Decisions": [f"adr/{name}" for name in decisions]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Puts the README in as the first page."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """The page with links that hold in the site. A link to nothing stops the build."""
    in_readme = page.file.src_uri == "index.md"
    folder = "" if in_readme else posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    parts = FENCE.split(markdown)
    # Every second part is a block of code, in which nothing is a link.
    parts[::2] = [LINK.sub(lambda link: _link(link, folder, page), part) for part in parts[::2]]
    return "".join(parts)


def _link(link: re.Match[str], folder: str, page: Page) -> str:
    """One link of a page in `folder` of the repository, as the site can follow it."""
    target = urlsplit(link["target"])
    if target.scheme or not target.path:
        return link[0]
    path = posixpath.normpath(posixpath.join(folder, target.path))
    if not (ROOT / path).exists():
        raise PluginError(f"{page.file.src_uri} links to {link['target']}, which is not there.")
    anchor = f"#{target.fragment}" if target.fragment else ""
    if path == "README.md":
        inside = "index.md"
    elif path == "docs/adr":
        inside = "adr/" + min(found.name for found in (ROOT / path).glob("*.md"))
    elif path.startswith("docs/"):
        inside = path.removeprefix("docs/")
    else:
        address = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        return f"[{link['text']}]({address}/{path}{anchor})" if address else link["text"]
    start = posixpath.dirname(page.file.src_uri) or "."
    return f"{link['image']}[{link['text']}]({posixpath.relpath(inside, start)}{anchor})"
