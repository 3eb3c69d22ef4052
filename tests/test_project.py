"What holds for the project as a whole."
import ast
import json
import re
import runpy
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(o for o in (ROOT/'nbs').glob('[0-9]*.ipynb'))
PAGES = [*NOTEBOOKS, *sorted((ROOT/'nbs').glob('*s/*.ipynb')), ROOT/'nbs'/'index.ipynb']
MODULES = [o for o in sorted((ROOT/'gz_fastai').rglob('*.py')) if o.name not in ('__init__.py', '_modidx.py')]


def read(nb): return json.loads(nb.read_text(encoding='utf-8'))['cells']


def cells(nb): return [(c['cell_type'], ''.join(c['source'])) for c in read(nb)]


def dotted(module): return '.'.join(module.relative_to(ROOT/'gz_fastai').with_suffix('').parts)


def room(nb): return nb.stem.split('_', 1)[1]


def exported(nb): return '\n'.join(s for t, s in cells(nb) if t == 'code' and s.startswith('#| export'))


def test_readme_is_the_index():
    readme = runpy.run_path(ROOT/'docs'/'readme.py')['readme']
    assert (ROOT/'README.md').read_text(encoding='utf-8') == readme(), 'python docs/readme.py makes README.md'


def test_links_of_the_readme():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    own = re.findall(r'\]\((?:https://github.com/gz-fastai/gz_fastai/(?:blob|tree)/main/)?((?!https?:)[^)#]+)\)', text)
    assert len(own) > 8 and not [o for o in own if not (ROOT/o).exists()]


def test_one_notebook_is_one_module():
    assert sorted(map(room, NOTEBOOKS)) == sorted(map(dotted, MODULES))
    for nb in NOTEBOOKS: assert ('code', f'#| default_exp {room(nb)}') in cells(nb)


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_imports_only_lower_rooms(nb):
    "The first digit of a notebook is its wing: imports lead to lower numbers, so to lower wings"
    order = {room(o): o.stem for o in NOTEBOOKS}
    for name in re.findall(r'(?:from|import) gz_fastai\.([\w.]+)', exported(nb)): assert order[name] < nb.stem, f'{nb.name} imports {name}'


def names_of(source):
    "The names that code reads"
    return {x.id for x in ast.walk(ast.parse(source)) if isinstance(x, ast.Name)}


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_star_imports_bring_something(nb):
    used = names_of(exported(nb))
    for name in re.findall(r'^from gz_fastai\.([\w.]+) import \*', exported(nb), re.M):
        module = ast.parse((ROOT/'gz_fastai'/f'{name.replace(".", "/")}.py').read_text(encoding='utf-8'))
        offered = next(ast.literal_eval(o.value) for o in module.body if isinstance(o, ast.Assign) and o.targets[0].id == '__all__')
        assert used & set(offered), f'{nb.name} imports nothing that it uses from {name}'


@pytest.mark.parametrize('module', [o for o in MODULES if dotted(o) != 'data.schema'], ids=dotted)
def test_only_the_schema_knows_columns(module):
    for i, line in enumerate(module.read_text(encoding='utf-8').splitlines(), 1):
        assert line.startswith('# %%') or not re.search(r'\b37\b|Class\d+\.\d+', line), f'{module.name} line {i}: {line}'


def test_a_folder_is_recognised_in_one_room():
    "Only `experiment` looks at the files that say what a folder is"
    for o in MODULES:
        if dotted(o) == 'experiment': continue
        assert not re.search(r"""['"]experiment\.json['"]""", o.read_text(encoding='utf-8')), o


def strings(module):
    "The lines that hold a string too long to break them elsewhere, and those of docstrings"
    res = set()
    for o in ast.walk(ast.parse(module.read_text(encoding='utf-8'))):
        text = isinstance(o, ast.JoinedStr) or isinstance(o, ast.Constant) and isinstance(o.value, str)
        if text and (o.end_lineno > o.lineno or o.end_col_offset-o.col_offset > 50): res.update(range(o.lineno, o.end_lineno+1))
    return res


@pytest.mark.parametrize('module', MODULES, ids=dotted)
def test_lines(module):
    "fast.ai's guide: around 160 characters at most, one complete idea a line"
    long = strings(module)
    for i, line in enumerate(module.read_text(encoding='utf-8').splitlines(), 1):
        if line.startswith('# %%') or i < 12: continue     # nbdev's own
        assert len(line) <= 160, f'{module} line {i} has {len(line)} characters'
        assert len(line) <= 120 or i in long, f'{module} line {i} has {len(line)} characters'


def test_unused_and_undefined_names():
    "pyflakes' rules; star imports are this project's way, as they are fastai's"
    res = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '--isolated', '--select', 'F', '--ignore', 'F403,F405',
                          '--per-file-ignores', 'all.py:F401', ROOT/'gz_fastai'], capture_output=True, text=True)
    assert res.returncode == 0, res.stdout


@pytest.mark.parametrize('nb', PAGES, ids=lambda o: o.stem)
def test_stored_outputs(nb):
    "What readers of the docs see: pictures where there are figures, no errors, tables with today's columns"
    for c in read(nb):
        for o in c.get('outputs', []):
            data = o.get('data', {})
            plain, table = (''.join(data.get(k, '')) for k in ('text/plain', 'text/html'))
            assert o['output_type'] != 'error', (nb.name, o.get('ename'))
            if '<Figure size' in plain: assert [k for k in data if k.startswith('image/')], f'{nb.name}: a figure without its picture'
            head = re.findall(r'<th>(\w+)</th>', table.split('</thead>')[0])
            if {'epoch', 'train_loss'} <= set(head): assert {'rmse', 'accuracy'} <= set(head) or nb.parent.name != 'nbs', f'{nb.name}: a history with other columns'
    shown = [c for c in read(nb) if c['cell_type'] == 'code' and not re.search(r'^#\| *(export|hide|default_exp|eval: *false)', ''.join(c['source']), re.M)]
    assert len(shown) <= 3 or any(c['outputs'] for c in shown), f'{nb.name} was not executed'


def test_cells_are_small():
    for nb in NOTEBOOKS:
        for t, s in cells(nb):
            if t == 'code' and s.startswith('#| export'): assert len(s.splitlines()) <= 60 or 'class Config' in s, f'{nb.name}: {s.splitlines()[1]}'


def test_settings():
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini')
    runtime, dev = (ini['DEFAULT'][k].split() for k in ('requirements', 'dev_requirements'))
    assert {'fastai', 'timm', 'torch', 'optuna', 'fastcore', 'pandas', 'pillow'} <= {re.split(r'[<>=]', o)[0] for o in runtime}
    assert not [o for o in runtime if '<' in o or '==' in o], 'runtime requirements stay open upwards'
    assert {'nbdev', 'pytest'} <= {re.split(r'[<>=]', o)[0] for o in dev}
    assert (ROOT/'nbs'/'_quarto.yml').resolve() == ROOT/'_quarto.yml'


def test_ci_runs_the_readme():
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    assert len(re.findall(r"^pip install -e '.\[dev\]' && .*nbdev_test.*pytest$", readme, re.M)) == 1
    assert 'README.md' in (ROOT/'.ci'/'run').read_text()


def test_sidebar_lists_every_notebook():
    listed = list(dict.fromkeys(re.findall(r'[\w/.]+\.ipynb', (ROOT/'nbs'/'sidebar.yml').read_text())))
    there = [str(o.relative_to(ROOT/'nbs')) for o in (ROOT/'nbs').rglob('*.ipynb') if not any(p.startswith(('_', '.')) for p in o.relative_to(ROOT/'nbs').parts)]
    assert sorted(listed) == sorted(o for o in there if o != 'index.ipynb')     # the navigation bar leads home
    reference = [o for o in listed if o[0].isdigit()]
    assert reference == sorted(reference)
