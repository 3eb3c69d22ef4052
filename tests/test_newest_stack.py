"The wheel works with the newest fastai and fastcore too, which nbdev 2 keeps out of the developer's environment."
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import BIN

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.services


def sh(*args):
    res = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    assert res.returncode == 0, f'{args}\n{res.stdout}\n{res.stderr}'
    return res.stdout.strip()


@pytest.fixture(scope='module')
def newest(tmp_path_factory):
    "The programs of an environment over this one that has the wheel and only those packages that differ"
    tmp = tmp_path_factory.mktemp('newest')
    src = tmp/'src'
    for f in sh('git', '-C', ROOT, 'ls-files').splitlines():
        (src/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/f, src/f)
    sh(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', tmp, src)
    wheel, = tmp.glob('*.whl')
    sh(sys.executable, '-m', 'venv', '--without-pip', tmp/'env')
    python = tmp/'env'/'bin'/'python'
    site = Path(sh(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'))
    (site/'below.pth').write_text(sysconfig.get_path('purelib'))
    pip = [sys.executable, '-m', 'pip', '--python', python]
    sh(*pip, 'install', '-q', '--no-deps', '--force-reinstall', wheel)
    got = subprocess.run([*map(str, pip), 'install', '-q', '--upgrade', 'fastai', 'fastcore'], capture_output=True, text=True)
    if any(o in got.stderr for o in ('Failed to establish a new connection', 'NewConnectionError', 'Temporary failure in name resolution', 'No matching distribution')):
        pytest.skip('no package index is reachable')
    assert got.returncode == 0, got.stderr
    check = subprocess.run([*map(str, pip), 'check'], capture_output=True, text=True).stdout      # nbdev's own pin may be broken here
    assert not [o for o in check.splitlines() if o.startswith(('gz_fastai ', 'gz-fastai ', 'fastai '))], check
    return python.parent


def test_it_is_the_wheel_and_the_newest(newest):
    code = 'import fastcore, fastai, gz_fastai; print(fastcore.__version__, fastai.__file__, gz_fastai.__file__)'
    version, *files = sh(newest/'python', '-P', '-c', code).split()   # -P: not the checkout, where tests may run
    assert int(version.split('.')[0]) >= 2
    for f in files: assert Path(f).is_relative_to(newest.parent), f


def test_same_flags(newest, command):
    here, there = (command('gz_fastai_train', '--help', bin=o) for o in (BIN, newest))
    assert there.returncode == 0 and here.stdout == there.stdout
    bad = [command('gz_fastai_train', '--epochs', 'x', bin=o) for o in (BIN, newest)]
    assert [o.returncode for o in bad] == [2, 2] and bad[0].stderr == bad[1].stderr


def test_trains(newest, command, galaxies, tmp_path):
    res = command('gz_fastai_train', '--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--out', 'run', bin=newest)
    assert res.returncode == 0, res.stderr
    assert 'RMSE on' in res.stdout and (tmp_path/'run'/'metrics.json').exists()


def test_a_notebook_works(newest, galaxies, cache, tmp_path):
    "The first level: loaders, pictures, learner"
    code = f'''
import matplotlib; matplotlib.use('agg')
from gz_fastai.all import *
dls = GalaxyDataLoaders.from_catalog(Catalog({str(galaxies)!r}), bs=16, size=32, store=Store.open(Catalog({str(galaxies)!r}).files, size=32, folder={str(cache)!r}))
dls.show_batch()
learn = galaxy_learner(dls, 'test_resnet')
learn.fit_one_cycle(1)
learn.show_results()
assert learn.get_preds()[0].sum(1).isfinite().all()
'''
    sh(newest/'python', '-P', '-c', code)
