"The documentation as docs/site.py builds it: every page in a browser, every link, the search."
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of the built site"
    out = tmp_path_factory.mktemp('site')/'html'
    res = subprocess.run([sys.executable, '-W', 'ignore', ROOT/'docs'/'site.py', '--out', out], capture_output=True, text=True, timeout=1200)
    assert res.returncode == 0, res.stdout[-3000:] + res.stderr[-3000:]
    return out


class Page(HTMLParser):
    "The links and anchors of a page"
    def __init__(self, file):
        super().__init__()
        self.links, self.anchors = [], {''}
        self.feed(file.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[o] for o in ('id', 'name') if attrs.get(o)}
        self.links += [attrs[o] for o in ('href', 'src') if attrs.get(o)]


def test_no_link_is_dead(site):
    pages = {o.resolve(): Page(o) for o in site.rglob('*.html')}
    assert len(pages) > 38
    dead = []
    for file, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme or to.netloc: continue
            target = (file.parent/unquote(to.path)).resolve() if to.path else file
            if not target.exists() or target in pages and unquote(to.fragment) not in pages[target].anchors: dead.append((file.name, link))
    assert not dead


def test_every_page_in_a_browser(site, visit):
    for page in sorted(site.rglob('*.html')):
        found, logged = visit(page, width=1200, root=site)
        assert not logged and not found['broken'] and len(found['text']) > 50, (page, logged, found)


def test_nothing_comes_from_elsewhere(site):
    "No script, style, font or picture of another host; formulas are MathML"
    for file in site.rglob('*.html'):
        text = file.read_text(encoding='utf-8')
        assert not re.findall(r'<(?:script|img|iframe)[^>]*src="https?:|<link[^>]*stylesheet[^>]*href="https?:', text), file
        assert '\\(' not in text and '$$' not in text, file
    assert (site/'explanations'/'tree.html').read_text(encoding='utf-8').count('<math') >= 4


def test_pages_fit_a_phone(site, visit):
    for name in ('index', 'inference', 'explanations/views', 'explanations/code', 'tutorials/kaggle', 'tutorials/report'):
        found, _ = visit(site/f'{name}.html', root=site)
        assert found['scroll'] <= found['width'], (name, found['scroll'], found['width'])


@pytest.mark.parametrize('words, page', [('galaxy_learner', 'Learner'), ('grouped softmax', 'Losses')])
def test_the_search_finds(site, visit, words, page):
    found, logged = visit(site/'search.html', width=1200, query=f'?q={words.replace(" ", "+")}', root=site, wait=5000)
    assert not logged and 'matching the search query' in found['text'] and page in found['text'].split('Search Results')[1], found['text']
