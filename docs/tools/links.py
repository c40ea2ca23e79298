"""Checks every link of the built site: pages, files and anchors; names the hosts it leads to.

python docs/tools/links.py site
"""

from __future__ import annotations

import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_REFERENCES = {"href", "src", "srcset", "poster", "data"}
# What a browser fetches by itself when the page is opened.
_FETCHED = {"script", "img", "iframe", "source", "video", "audio", "object", "embed"}


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(values[key] for key in ("id", "name") if values.get(key))
        fetched = tag in _FETCHED
        if tag == "link":
            rel = (values.get("rel") or "").split()
            fetched = not {"canonical", "prev", "next", "alternate"} & set(rel)
        for key in _REFERENCES & set(values):
            if values[key] and tag != "meta":
                self.links.append((values[key].split(" ")[0], fetched))


def check_site(site: Path) -> tuple[list[str], Counter]:
    """Looks at every page of a built site.

    Args:
        site: its folder.

    Returns:
        Sentences about links that lead nowhere and about what is fetched from other hosts, and how
        often each external address is linked to (they are not asked).
    """
    pages = {}
    for path in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        pages[path.resolve()] = page
    problems, external = [], Counter()
    for path, page in pages.items():
        here = path.relative_to(site.resolve()).as_posix()
        for link, fetched in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("data", "javascript"):
                continue
            if parts.scheme or parts.netloc:
                external[link] += 1
                if fetched:
                    problems.append(f"{here} fetches {link} from another host.")
                continue
            target = _target(site.resolve(), path, unquote(parts.path))
            if not target.is_file():
                if here != "404.html":
                    problems.append(f"{here} links to {link}, which is not there.")
            elif parts.fragment and target in pages:
                known = pages[target].anchors
                if not {parts.fragment, unquote(parts.fragment)} & known:
                    problems.append(f"{here} links to {link}, but that page has no such anchor.")
    return problems, external


def _target(site: Path, page: Path, path: str) -> Path:
    if not path:
        return page
    target = site / path.lstrip("/") if path.startswith("/") else page.parent / path
    target = target.resolve()
    return target / "index.html" if target.is_dir() else target


def main(site: Path) -> int:
    """Prints what was found; 1 where a link leads nowhere."""
    problems, external = check_site(site)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(external)} external addresses, not asked:")
    for link, count in sorted(external.items()):
        print(f"  {link} ({count})")
    print(f"{sum(1 for _ in site.rglob('*.html'))} pages, {len(problems)} broken links")
    return 1 if problems or not any(site.rglob("*.html")) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "site")))
