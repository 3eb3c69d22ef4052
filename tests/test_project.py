"What holds for the project as a whole."
import json
import re
import runpy
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(o for o in (ROOT/'nbs').glob('[0-9]*.ipynb'))
MODULES = [o for o in sorted((ROOT/'gz_fastai').glob('*.py')) if o.name not in ('__init__.py', '_modidx.py')]


def cells(nb): return [(c['cell_type'], ''.join(c['source'])) for c in json.loads(nb.read_text(encoding='utf-8'))['cells']]


def test_readme_is_the_index():
    readme = runpy.run_path(ROOT/'docs'/'readme.py')['readme']
    assert (ROOT/'README.md').read_text(encoding='utf-8') == readme(), 'python docs/readme.py makes README.md'


def test_links_of_the_readme():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    own = re.findall(r'\]\((?:https://github.com/gz-fastai/gz_fastai/(?:blob|tree)/main/)?((?!https?:)[^)#]+)\)', text)
    assert len(own) > 8 and not [o for o in own if not (ROOT/o).exists()]


def test_one_notebook_is_one_module():
    assert sorted(o.stem.split('_', 1)[1] for o in NOTEBOOKS) == [o.stem for o in MODULES]
    for nb in NOTEBOOKS: assert ('code', f'#| default_exp {nb.stem.split("_", 1)[1]}') in cells(nb)


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda o: o.stem)
def test_imports_only_lower_numbers(nb):
    order = {o.stem.split('_', 1)[1]: o.stem for o in NOTEBOOKS}
    code = '\n'.join(s for t, s in cells(nb) if t == 'code' and s.startswith('#| export'))
    for name in re.findall(r'(?:from|import) gz_fastai\.(\w+)', code): assert order[name] < nb.stem, f'{nb.name} imports {name}'


@pytest.mark.parametrize('module', [o for o in MODULES if o.stem != 'schema'], ids=lambda o: o.stem)
def test_only_the_schema_knows_columns(module):
    for i, line in enumerate(module.read_text(encoding='utf-8').splitlines(), 1):
        assert line.startswith('# %%') or not re.search(r'\b37\b|Class\d+\.\d+', line), f'{module.name} line {i}: {line}'


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
    listed = re.findall(r'- ([\w/]+\.ipynb)', (ROOT/'nbs'/'sidebar.yml').read_text())
    there = [str(o.relative_to(ROOT/'nbs')) for o in (ROOT/'nbs').rglob('*.ipynb') if not any(p.startswith(('_', '.')) for p in o.relative_to(ROOT/'nbs').parts)]
    assert sorted(listed) == sorted(there)
    reference = [o for o in listed if o[0].isdigit()]
    assert reference == sorted(reference)
