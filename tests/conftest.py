"What several tests need: a small folder of synthetic galaxies, and the installed command."
import os, shutil, subprocess, sys
from pathlib import Path

import pytest

from gz_fastai.sample import make_sample


@pytest.fixture(scope='session')
def galaxies(tmp_path_factory):
    "A folder in Kaggle's layout with 80 synthetic galaxies, not to be changed"
    return make_sample(80, folder=tmp_path_factory.mktemp('data')/'galaxies')


@pytest.fixture
def damaged(galaxies, tmp_path):
    "A copy of `galaxies` to damage"
    return Path(shutil.copytree(galaxies, tmp_path/'galaxies'))


@pytest.fixture(scope='session')
def cache(tmp_path_factory): return tmp_path_factory.mktemp('cache')


@pytest.fixture
def command(cache, tmp_path):
    "Run an installed command as a user does, in an empty folder, at 80 columns; `bin` may name another environment"
    def run(name, *args, bin=Path(sys.executable).parent, timeout=600, **env):
        env = {k: v for k,v in os.environ.items() if k != 'PYTHONPATH'} | dict(GZ_FASTAI_CACHE=str(cache), COLUMNS='80', LINES='40') | env
        return subprocess.run([bin/name, *map(str, args)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout)
    return run


@pytest.fixture(scope='session')
def real_data():
    "The folder of real galaxies in Kaggle's layout"
    folder = os.environ.get('GZ_FASTAI_REAL_DATA')
    if not folder: pytest.skip('GZ_FASTAI_REAL_DATA is not set')
    return Path(folder)
