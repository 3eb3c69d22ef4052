"The documentation: what its sources promise to Quarto, and as docs/site.py builds it, every page in a browser, every link, the search."
import ast
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
NOTEBOOKS = sorted(o for o in NBS.rglob('*.ipynb') if not any(p.startswith(('_', '.')) for p in o.relative_to(NBS).parts))
MODULES = sorted(o for o in (ROOT/'gz_fastai').rglob('*.py') if not o.name.startswith('_'))
QUARTO = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))


def cells(nb): return [(c, ''.join(c['source'])) for c in json.loads(nb.read_text(encoding='utf-8'))['cells']]


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_links_have_plain_text(nb):
    "nbdev links symbols in backticks, so a link around one would be a link in a link"
    for c, source in cells(nb):
        if c['cell_type'] == 'markdown': assert not re.findall(r'\[[^\]`]*`[^\]]*\]\([^)]*\)', source), source


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_figures_have_alternative_text(nb):
    for c, source in cells(nb):
        if c['cell_type'] == 'markdown': assert '![](' not in source, source
        elif any(k.startswith('image/') for o in c['outputs'] for k in o.get('data', {})) and '#| hide' not in source:
            alt = re.search(r'^#\| *fig-alt: *(.+)$', source, re.M)
            assert alt and isinstance(yaml.safe_load(alt[1]), str), f'no fig-alt, or not a YAML string:\n{source}'


@pytest.mark.parametrize('nb', [o for o in NOTEBOOKS if o.name[0].isdigit()], ids=lambda o: o.stem)
def test_imports_have_cells_of_their_own(nb):
    "nbdev runs every cell that imports when it builds the docs, without the cells before it"
    for c, source in cells(nb):
        directives = ' '.join(re.findall(r'^#\| *(.*)$', source, re.M))
        if c['cell_type'] == 'markdown' or source.startswith(('%', '!')) or re.search('export|hide|default_exp', directives): continue
        kinds = {type(o) for o in ast.walk(ast.parse(source))}
        mixed = kinds & {ast.Import, ast.ImportFrom} and kinds & {ast.Expr, ast.Assign}
        assert not mixed, source


def test_signatures_are_free_of_links():
    "nbdev would also link an exported name in backticks inside of a signature, where it shows as raw Markdown"
    trees = {o: ast.parse(o.read_text(encoding='utf-8')) for o in MODULES}
    lists = [a.value for t in trees.values() for a in t.body if isinstance(a, ast.Assign) and ast.unparse(a.targets[0]) == '__all__']
    names = {n for o in lists if isinstance(o, ast.List) for n in ast.literal_eval(o)}
    found = []
    for file, tree in trees.items():
        lines = file.read_text(encoding='utf-8').splitlines()
        for f in ast.walk(tree):
            if isinstance(f, ast.FunctionDef):
                comments = ' '.join(o.partition('#')[2] for o in lines[f.lineno-1:f.body[0].lineno-1])
                found += [(file.name, f.name, o) for o in re.findall(r'`([\w.]+)', comments) if o.split('.')[0] in names]
    assert not found, found


def test_files_of_the_site_are_there():
    html = QUARTO['format']['html']
    own = [html['css'], html['theme']['dark'][-1], QUARTO['website']['favicon'], '404.qmd']
    assert not [o for o in own if not (NBS/o).exists()]
    assert (html['html-math-method'], QUARTO['format']['commonmark']) == ('mathml', {'variant': '+tex_math_dollars'})     # formulas without a CDN


def test_each_entry_of_the_navbar_has_a_sidebar():
    "Quarto marks the entry whose page is in the sidebar; with one sidebar for all it would be the first on every page"
    bars = yaml.safe_load((NBS/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']
    entries = [o['href'] for o in QUARTO['website']['navbar']['left']]
    assert len(bars) == len(entries)
    for bar, first in zip(bars, entries): assert [o for o in entries if f'- {o}\n' in yaml.dump(bar['contents'])] == [first]


def test_quarto_never_writes_the_readme():
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini')
    assert not (NBS/ini['DEFAULT'].get('readme_nb', 'index.ipynb')).exists(), 'nbdev_docs would replace README.md; docs/readme.py makes it'
    assert 'nbs/nbdev.yml' in (ROOT/'.gitignore').read_text()


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
    assert len(pages) > len(NOTEBOOKS)
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


def test_every_symbol_is_documented(site):
    "Python's own docstring stands in for a missing one"
    assert not [o.name for o in site.rglob('*.html') if 'Call self as a function' in o.read_text(encoding='utf-8')]


def test_nothing_comes_from_elsewhere(site):
    "No script, style, font or picture of another host; formulas are MathML"
    for file in site.rglob('*.html'):
        text = file.read_text(encoding='utf-8')
        assert not re.findall(r'<(?:script|img|iframe)[^>]*src="https?:|<link[^>]*stylesheet[^>]*href="https?:', text), file
        prose = re.sub(r'<pre>.*?</pre>', '', text, flags=re.S)
        assert '\\(' not in prose and '$$' not in prose, file
    assert (site/'explanations'/'tree.html').read_text(encoding='utf-8').count('<math') >= 4


def test_pages_fit_a_phone(site, visit):
    for name in ('index', 'inference.predict', 'training.config', 'explanations/views', 'explanations/code', 'tutorials/kaggle', 'tutorials/tuning'):
        found, _ = visit(site/f'{name}.html', root=site)
        assert found['scroll'] <= found['width'], (name, found['scroll'], found['width'])


@pytest.mark.parametrize('words, page', [('galaxy_learner', 'Learner'), ('grouped softmax', 'Losses')])
def test_the_search_finds(site, visit, words, page):
    found, logged = visit(site/'search.html', width=1200, query=f'?q={words.replace(" ", "+")}', root=site, wait_for='matching the search query')
    assert not logged and 'matching the search query' in found['text'] and page in found['text'].split('Search Results')[1], found['text']
