"""Makes README.md from nbs/index.ipynb:

    python docs/readme.py

nbdev's own `nbdev_readme` needs Quarto and breaks the links and pictures of this page, so `settings.ini` switches it off
(`readme_nb`). Links in the notebook start in `nbs/`, those in README.md next to it; the badges are for README.md alone.
"""
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
REPO, SITE = 'https://github.com/gz-fastai/gz_fastai', 'https://gz-fastai.github.io/gz_fastai'
BADGE = 'https://img.shields.io/badge'
BADGES = ' '.join([
    f'[![tests]({REPO}/actions/workflows/test.yaml/badge.svg)]({REPO}/actions/workflows/test.yaml)',
    f'[![documentation]({BADGE}/docs-gz--fastai.github.io-blue)]({SITE})',
    f'[![license: Apache 2.0]({BADGE}/license-Apache_2.0-blue)]({REPO}/blob/main/LICENSE)',
    f'[![Python 3.11 to 3.13]({BADGE}/python-3.11_to_3.13-blue)]({REPO}/blob/main/settings.ini)'])


def visible(nb):
    "A notebook without hidden cells, and without the directives that only nbdev reads"
    shown = [c for c in nb.cells if not re.search(r'^#\| *hide$', c.source, re.M)]
    for c in shown:
        if c.cell_type == 'code': c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
    return nbformat.v4.new_notebook(cells=shown, metadata=dict(language_info=dict(name='python')))


def readme():
    "The text of README.md"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    text = MarkdownExporter().from_notebook_node(visible(nb))[0]
    text = re.sub(r'(\]\()(?!https?:|#)', r'\1nbs/', text)
    text = re.sub(r'\n{3,}', '\n\n', text).strip()
    return re.sub(r'^(> .*)$', lambda m: f'{m[1]}\n\n{BADGES}', text, count=1, flags=re.M)+'\n'


if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
