"""The documentation as a site: every page is in it, every link holds, nothing comes from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. The build is strict: a broken link or anchor, or a page that is nowhere listed, fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}

    assert built - pages == {Path("index.md"), Path("404.md")}
    assert pages <= built
    assert 'id="two-commands"' in (site / "index.html").read_text()


def test_the_site_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="([^"]+)"', page.read_text())
        assert loaded and not [found for found in loaded if re.match(r"(https?:)?//", found)], page


def test_a_link_to_nothing_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    hooks = ROOT / "docs" / "site_hooks.py"
    (tmp_path / "mkdocs.yml").write_text(f"site_name: broken\nhooks: [{hooks}]\nnav: [page.md]\n")
    (tmp_path / "docs" / "page.md").write_text("# A page\n\n[gone](../model/no_such_file.py)\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "../model/no_such_file.py" in done.stderr
