"""Builds the documentation from the notebooks without Quarto, into `_docs/`:

    python docs/site.py [--out _docs]

The published site is made by `nbdev_docs`, which needs Quarto. Quarto is a program of its own that cannot be installed on many
machines: clusters, closed networks, CI without downloads. This script sends the same notebooks through the same nbdev processing
(hidden cells are removed, exported symbols become signatures) and lets Sphinx render them with myst-nb and furo. Warnings are errors.
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault('GZ_FASTAI_CACHE', str(Path(tempfile.gettempdir())/'gz_fastai-docs'))

import yaml
from latex2mathml.converter import convert as mathml
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve_drv import main as process
from sphinx.cmd.build import build_main

CONF = '''
project, copyright, author = {title!r}, {copyright!r}, {author!r}
extensions = ['myst_nb']
html_theme, html_title, html_show_sphinx = 'furo', {title!r}, False
html_theme_options = dict(source_repository={repo!r}, source_branch={branch!r}, source_directory='nbs/')
html_static_path, html_css_files, html_favicon = ['static'], ['site.css'], 'images/favicon.svg'
nb_execution_mode, nb_merge_streams = 'off', True
myst_enable_extensions, myst_heading_anchors = ['attrs_inline'], 3
highlight_language = 'text'
'''
CSS = '''
table { font-size: .85em; }
.source { float: right; font-size: small; }
.cell_output { overflow-x: auto; }
.cell_output img { max-width: 100%; height: auto; }
.cell_output table { border: none; border-collapse: collapse; }
.cell_output table td, .cell_output table th { border: none; padding: .2em .6em; color: var(--color-foreground-primary); }
.cell_output table tbody tr > :first-child { min-width: 7em; }
.cell_output table tbody tr:nth-child(odd) { background: var(--color-background-secondary); }
.cell_output table tbody tr:nth-child(even) { background: none; }
.cell_output table tbody tr:hover { background: var(--color-background-hover); }
math[display=block] { margin: 1em 0; overflow-x: auto; }
'''


def page_of(nb):
    "Name of a notebook's page, as nbdev names it: `10_data.schema.ipynb` -> `data.schema`"
    return re.sub(r'^\d+[a-z]?_', '', nb.stem) if nb.parent.name == 'nbs' else f'{nb.parent.name}/{nb.stem}'


def sidebar():
    "(caption, notebooks) of each group in the sidebars of Quarto's site; the reference has one for each wing"
    for bar in yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']:
        sections = [o for o in bar['contents'] if isinstance(o, dict)]
        loose = [o for o in bar['contents'] if isinstance(o, str)]
        if loose: yield bar['title'], [Path('nbs')/o for o in loose]
        for o in sections: yield f'{bar["title"]}: {o["section"]}', [Path('nbs')/f for f in o['contents']]


def target(page, name):
    "A label for a symbol; labels are the same in upper and lower case, so classes have their own"
    kind = 'class.' if name[0].isupper() else ''
    return f'{page}.{kind}{name}'


def symbols(cells):
    "(cell, text, name) of the cells in which nbdev documents a symbol"
    for c in cells:
        if c['cell_type'] == 'code' and 'show_doc(' in ''.join(c['source']):
            for o in c.get('outputs', []):
                text = ''.join(o.get('data', {}).get('text/markdown', ''))
                if m := re.search(r'^#+ (\S+)$', text, re.M): yield c,text,m[1]


def formulas(text):
    "TeX between dollars as MathML, which browsers draw without a script"
    def one(m):
        code, display, inline = m.groups()
        if code: return code
        return mathml(display or inline, display='block' if display else 'inline')
    return re.sub(r'(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+)\$', one, text, flags=re.S)


def relink(text, host, repo, known, page, base='nbs'):
    """Links for this site. nbdev's links to the published site become links within this one, links to files of the repository lead there,
    and all others start in the folder of `page` in `base`."""
    def plain(m): return re.sub(r'\[`([^`\]]+)`\]\([^)]*\)', r'`\1`', m[1])     # no links inside of code
    def symbol(m):
        name,label = m[1],target(m[2], m[3])
        return f'[{name}](#{label})' if label in known else name
    def local(m):
        file,_,anchor = m[2].partition('#')
        if not file.endswith('.ipynb'): return f'[{m[1]}]({repo}/blob/main/{file})'
        nb = Path(os.path.normpath(Path(base)/Path(page).parent/file))
        there = os.path.relpath(page_of(nb), Path(page).parent)
        return f'[{m[1]}]({there}.ipynb{"#"*bool(anchor)}{anchor})'
    text = re.sub(r'(```python\n.*?```)', plain, text, flags=re.S)
    text = re.sub(rf'\[(`[^`]+`)\]\({re.escape(host)}/([\w/.]+?)\.html#([\w.]+)\)', symbol, text)
    text = text.replace(f']({repo}/blob/main/CONTRIBUTING.md)', '](contributing.md)')
    return re.sub(r'(?<!!)\[([^\]]*)\]\((?!https?:|#|data:|attachment:|contributing)([^)\s]+)\)', local, text)


def title_cell(source):
    "The title and the subtitle that nbdev has put into front matter"
    head = yaml.safe_load(source.strip().strip('-'))
    about = f'> {head["description"]}' if 'description' in head else ''
    return f'# {head["title"]}\n\n{about}'


def code_cell(source, outputs):
    "A code cell without its directives; what they say goes into the cell's metadata for myst-nb"
    meta = dict(tags=['remove-input'] if re.search(r'^#\| *echo: *false', source, re.M) else [])
    if m := re.search(r'^#\| *fig-alt: *(.+)$', source, re.M): meta['mystnb'] = dict(image=dict(alt=yaml.safe_load(m[1])))
    source = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip('\n')
    if not source or source.startswith('show_doc('): return None
    return dict(cell_type='code', execution_count=None, metadata=meta, source=source, outputs=outputs)


def documented(text, name, page, level):
    "The Markdown of a documented symbol under a heading with a label"
    text = re.sub(r'^---\n', '', text)
    text = re.sub(r'\[source\]\(([^)]*)\)\{[^}]*\}', r'[source](\1){.source}', text)
    heading = f'({target(page, name)})=\n{"#"*(level+1)} {name}'
    return re.sub(r'^#+ (\S+)$', lambda m: heading, text, count=1, flags=re.M)


def render(nb, page, host, repo, known):
    "A processed notebook with its symbols as headings, ready for myst-nb"
    level,out = 1,[]
    docs = {id(c): (text, name) for c,text,name in symbols(nb['cells'])}
    for c in nb['cells']:
        source = ''.join(c['source'])
        if c['cell_type'] == 'raw': out.append(title_cell(source))
        elif c['cell_type'] == 'markdown':
            if 'AUTOGENERATED' in source: continue
            for m in re.finditer(r'^(#+) ', re.sub(r'```.*?```', '', source, flags=re.S), re.M): level = len(m[1])
            out.append(formulas(relink(source, host, repo, known, page)))
        elif id(c) in docs: out.append(relink(documented(*docs[id(c)], page, level), host, repo, known, page))
        else: out.append(code_cell(source, c.get('outputs', [])))
    nb['cells'] = [dict(cell_type='markdown', metadata={}, source=o) if isinstance(o, str) else o for o in out if o]
    for i,c in enumerate(nb['cells']): c['id'] = f'{i:04d}'
    nb['metadata']['language_info'] = dict(name='python', pygments_lexer='ipython3')
    return nb


def processed(file, tmp):
    "A notebook after nbdev's processing, which takes cell magics away; they are put back"
    process((file.absolute(), tmp, FilterDefaults))
    nb = json.loads(tmp.read_text(encoding='utf-8'))
    cells = {c['id']: ''.join(c['source']) for c in json.loads(file.read_text(encoding='utf-8'))['cells']}
    for c in nb['cells']:
        before = cells.get(c.get('id'), '')
        if before.startswith('%%'): c['source'] = before.splitlines()[0]+'\n'+''.join(c['source'])
    return nb


def toctree(caption, pages):
    text = f'```{{toctree}}\n:caption: "{caption}"\n:hidden:\n\n' + '\n'.join(pages) + '\n```'
    return dict(cell_type='markdown', metadata={}, source=text, id=re.sub(r'\W', '', caption))


def sources(src):
    "Write what Sphinx renders into `src`; the number of pages"
    cfg = get_config()
    host,repo = f'{cfg.doc_host}{cfg.doc_baseurl}'.rstrip('/'),cfg.git_url
    groups = list(sidebar())
    nbs = {}
    for f in [Path('nbs/index.ipynb')] + [f for _,files in groups for f in files]:
        print(f, flush=True)
        nbs[page_of(f)] = processed(f, src/'one.ipynb')
    (src/'one.ipynb').unlink()
    known = {target(page, name) for page,nb in nbs.items() for _,_,name in symbols(nb['cells'])}
    trees = [toctree(caption, map(page_of, files)) for caption,files in groups] + [toctree('Project', ['contributing', 'changelog'])]
    for page,nb in nbs.items():
        nb = render(nb, page, host, repo, known)
        if page == 'index': nb['cells'] += trees
        (src/page).parent.mkdir(exist_ok=True)
        (src/f'{page}.ipynb').write_text(json.dumps(nb), encoding='utf-8')
    for name in ('CONTRIBUTING', 'CHANGELOG'):
        text = Path(f'{name}.md').read_text(encoding='utf-8')
        (src/f'{name.lower()}.md').write_text(relink(text, host, repo, known, name.lower(), '.'), encoding='utf-8')
    conf = CONF.format(title=cfg.title, copyright=cfg.copyright, author=cfg.author, repo=repo+'/', branch=cfg.branch)
    (src/'conf.py').write_text(conf, encoding='utf-8')
    (src/'static').mkdir()
    (src/'static'/'site.css').write_text(CSS, encoding='utf-8')
    shutil.copytree('nbs/images', src/'images')
    return len(nbs)+2


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', default=ROOT/'_docs', help='folder to write; its contents are replaced')
    out = Path(p.parse_args().out).resolve()
    if out.exists() and any(out.iterdir()) and not (out/'index.html').exists(): sys.exit(f'{out}: not empty, and no site; choose another --out')
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as tmp:
        src = Path(tmp)
        pages = sources(src)
        status = build_main(['-W', '--keep-going', '-q', '-b', 'html', '-d', str(src/'doctrees'), str(src), str(src/'html')])
        if status: sys.exit(status)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(src/'html', out)
    print(f'{out}/index.html: {pages} pages')


if __name__ == '__main__': main()
