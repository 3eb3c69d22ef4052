"The documentation: what its sources promise to Quarto, and every page as docs/site.py builds it."
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
NBS = ROOT/'nbs'
NOTEBOOKS = [*sorted(NBS.glob('*.ipynb')), *sorted(NBS.glob('[!._]*/*.ipynb'))]
QUARTO = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
SIDEBARS = yaml.safe_load((NBS/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']


def cells(nb): return [(c, ''.join(c['source'])) for c in json.loads(nb.read_text(encoding='utf-8'))['cells']]


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_links_and_pictures(nb):
    "nbdev links symbols in backticks, so a link around one would be a link in a link; pictures have alternative text"
    for c, source in cells(nb):
        if c['cell_type'] == 'markdown':
            assert not re.findall(r'\[[^\]`]*`[^\]]*\]\([^)]*\)', source), source
            assert '![](' not in source, source
        elif '#| hide' not in source and any(k.startswith('image/') for o in c['outputs'] for k in o.get('data', {})):
            alt = re.search(r'^#\| *fig-alt: *(.+)$', source, re.M)
            assert alt and isinstance(yaml.safe_load(alt[1]), str), f'no fig-alt, or not a YAML string:\n{source}'


def test_files_of_the_site_are_there():
    html = QUARTO['format']['html']
    own = [html['css'], html['theme']['dark'][-1], QUARTO['website']['favicon'], '404.qmd']
    assert not [o for o in own if not (NBS/o).exists()]
    assert (html['html-math-method'], QUARTO['format']['commonmark']) == ('mathml', {'variant': '+tex_math_dollars'})     # formulas without a CDN


def test_each_entry_of_the_navbar_has_a_sidebar():
    "Quarto marks the entry whose page is in the sidebar; with one sidebar for all it would be the first on every page"
    entries = [o['href'] for o in QUARTO['website']['navbar']['left']]
    for bar, first in zip(SIDEBARS, entries, strict=True):
        assert [o for o in entries if f'- {o}\n' in yaml.dump(bar['contents'])] == [first]


def test_quarto_never_writes_the_readme():
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini')
    assert not (NBS/ini['DEFAULT'].get('readme_nb', 'index.ipynb')).exists(), 'docs/readme.py makes README.md'
    assert 'nbs/nbdev.yml' in (ROOT/'.gitignore').read_text()


class Page(HTMLParser):
    "The links, anchors and text of a page, and how many formulas it has"
    def __init__(self, file):
        super().__init__()
        self.links, self.anchors, self.texts, self.formulas = [], {''}, [], 0
        self.feed(file.read_text(encoding='utf-8'))
        self.text = ''.join(self.texts)

    def handle_data(self, data): self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.formulas += tag == 'math'
        self.anchors |= {attrs[o] for o in ('id', 'name') if attrs.get(o)}
        self.links += [attrs[o] for o in ('href', 'src') if attrs.get(o)]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of the site, built without a warning"
    out = tmp_path_factory.mktemp('site').resolve()
    command = [sys.executable, '-W', 'ignore', ROOT/'docs'/'site.py', out]
    res = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert res.returncode == 0, res.stderr[-3000:]
    return out


@pytest.fixture(scope='module')
def pages(site): return {o: Page(o) for o in site.rglob('*.html')}


def page_of(nb, site): return site/nb.relative_to(ROOT).with_suffix('.html')


def test_every_page_is_there(site, pages):
    listed = re.findall(r'[\w/.]+\.ipynb', yaml.dump(SIDEBARS))
    assert not [o for o in ['index.ipynb', *listed] if page_of(NBS/o, site) not in pages]


def test_no_link_is_dead(pages):
    dead = []
    for file, page in pages.items():
        for to in map(urlsplit, page.links):
            if to.scheme or to.netloc: continue
            target = (file.parent/unquote(to.path)).resolve() if to.path else file
            fragment = unquote(to.fragment)
            missing = target in pages and fragment not in pages[target].anchors
            if missing or not target.exists(): dead.append((file.name, to.geturl()))
    assert not dead


def test_hidden_code_is_hidden(site, pages):
    for nb in NOTEBOOKS:
        hidden = [source for _, source in cells(nb) if re.search(r'^#\| *hide$', source, re.M)]
        code = [re.sub(r'^#\|.*\n?', '', o, flags=re.M).strip() for o in hidden]
        assert not [o for o in code if o and o in pages[page_of(nb, site)].text], nb


def test_documentation_of_symbols(pages):
    "Python's own docstring stands in for a missing one; links that nbdev puts into a signature show as Markdown"
    for file, page in pages.items():
        assert 'Call self as a function' not in page.text, file
        assert '](/nbs/' not in page.text, file


def test_formulas(site, pages):
    assert pages[page_of(NBS/'explanations'/'tree.ipynb', site)].formulas >= 4
    assert not [o for o, page in pages.items() if '$$' in page.text]
