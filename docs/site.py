"""Checks that the notebooks render, where Quarto, which makes the published site in `nbdev_docs`, cannot be installed:

    python docs/site.py [FOLDER]

The notebooks go through nbdev's processing (hidden cells are removed, exported symbols become signatures), and Sphinx
with myst-nb builds a page of each in `_docs/` or FOLDER. Anything that it warns of makes the exit status 1: links and
anchors that lead nowhere, missing pictures, formulas and Markdown that cannot be read. The pages have no style.
"""
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve_drv import main as process
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = dict(
    root_doc='nbs/index', extensions=['myst_nb', 'mathml'], html_math_renderer='mathml', nb_execution_mode='off',
    myst_heading_anchors=4, myst_heading_slug_func='github', myst_enable_extensions=['dollarmath', 'attrs_inline'],
    suppress_warnings=['myst.header', 'misc.highlighting_failure'])
TOCTREE = '```{toctree}\n:hidden:\n:glob:\n*\n*/*\n/*\n```'


def formula(visitor, node):
    "Write a formula as MathML, which browsers draw without a script"
    block = isinstance(node, nodes.math_block)
    try: visitor.body.append(latex2mathml.tex2mathml(node.astext(), block))
    except MathError as e: logging.getLogger(__name__).warning(f'{node.astext()}: {e}', location=node)
    raise nodes.SkipNode


def setup(app): app.add_html_math_renderer('mathml', (formula, None), (formula, None))


def markdown(source, id): return dict(cell_type='markdown', id=id, metadata={}, source=source)


def documentation(output): return ''.join(output['data']['text/markdown']).removeprefix('---\n')


def title(front_matter):
    head = yaml.safe_load(front_matter.strip().strip('-'))
    return f'# {head["title"]}\n\n{head.get("description", "")}'


def relink(text, files):
    "nbdev's links to symbols on the published site, as links to the notebooks"
    def link(m): return f'](/{files[m[1]]}#{m[2].replace(".", "")})'
    site = re.escape(get_config().doc_host + get_config().doc_baseurl)
    return re.sub(rf'\]\({site}/([\w.]+)\.html#([\w.]+)\)', link, text)


def renderable(cell, files):
    "A cell of a processed notebook as myst-nb reads it, with titles and the documentation of symbols as Markdown"
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'raw': source = title(source)
    elif 'show_doc(' in source: source = '\n'.join(documentation(o) for o in cell['outputs'])
    elif cell['cell_type'] == 'code': return cell
    return markdown(relink(source, files), cell['id'])


def write_sources(src):
    "Write what Sphinx reads into a folder that is laid out like the repository"
    shutil.copytree('nbs', src/'nbs', ignore=shutil.ignore_patterns('.*', '_*', 'runs'))
    for name in ('CONTRIBUTING.md', 'CHANGELOG.md'): shutil.copy(name, src/name)
    pages = [o.relative_to(src) for o in sorted(src.rglob('*.ipynb'))]
    files = {re.sub(r'^\d+\w?_', '', o.stem): o for o in pages}
    for page in pages:
        print(page, flush=True)
        process((page.absolute(), src/page, FilterDefaults))
        nb = json.loads((src/page).read_text(encoding='utf-8'))
        nb['cells'] = [renderable(o, files) for o in nb['cells']]
        if page.stem == 'index': nb['cells'].append(markdown(TOCTREE, 'pages'))
        (src/page).write_text(json.dumps(nb), encoding='utf-8')


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT/'_docs').resolve()
    os.chdir(ROOT)
    sys.modules['mathml'] = sys.modules[__name__]     # Sphinx calls `setup` of its extensions
    with tempfile.TemporaryDirectory() as tmp:
        os.environ.setdefault('GZ_FASTAI_CACHE', f'{tmp}/cache')
        write_sources(Path(tmp)/'src')
        app = Sphinx(f'{tmp}/src', None, out, f'{tmp}/doctrees', 'html', OPTIONS, status=None, warningiserror=True)
        app.build()
    sys.exit(app.statuscode)


if __name__ == '__main__': main()
