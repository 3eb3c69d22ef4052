"What README and pages tell a user to type: every command of an sh block, made small, and the Python of the README."
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import timm
from conftest import zipped
from safetensors.torch import save_file
from tiny import copied, tiny_run

from gz_fastai.data.sample import make_sample

ROOT = Path(__file__).parent.parent
TRAIN = '--epochs 1 --size 32'
SMALL = {'gz_fastai_train': TRAIN, 'gz_fastai_crossval': TRAIN + ' --folds 2', 'gz_fastai_tune': TRAIN + ' --trials 2 --trial-epochs 1 --seeds 1'}
ELSEWHERE = ('pip install', 'sbatch', 'nbdev_', 'pytest', 'gz_fastai_data fetch')     # .ci/run installs and tests; test_data_command fetches, test_slurm submits


def text_of(page):
    if page.suffix == '.md': return page.read_text(encoding='utf-8')
    return '\n'.join(''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown')


def blocks(page, language): return re.findall(rf'^```{language}\n(.*?)^```', text_of(page), re.M | re.S)


PAGES = [o for o in [ROOT/'README.md', *sorted((ROOT/'nbs').glob('*s/*.ipynb'))] if blocks(o, 'sh')]


def small(command, folder):
    "The words of a command, for a moment's work and without a network"
    name, *args = shlex.split(command)
    if '--minutes' in args: del args[(i := args.index('--minutes')):i+2]
    for flag in ('--storage', '--processes'):      # tested by test_tune_command and test_processes
        if flag in args: del args[(i := args.index(flag)):i+2]
    args = ['resnet10t' if a == 'resnet50' else a for a in args]
    if name in SMALL: args += SMALL[name].split() + ([] if '--data' in args else ['--data', 'galaxy-zoo'])
    if '--pretrained' in args:
        i = args.index('--arch')+1
        arch = args[i] = args[i].rpartition('zoobot-encoder-')[2]
        save_file(timm.create_model(arch, num_classes=0).state_dict(), folder/f'{arch}.safetensors')
        args[args.index('--pretrained')] = f'--weights={folder/arch}.safetensors'
    return name, args


def test_there_are_commands(): assert {'README', 'transfer', 'report'} <= {o.stem for o in PAGES}


def surveys(folder):
    "Two small surveys with votes, one with positions"
    for name, campaign, seed in (('decals', 'decals-dr5', 1), ('gz2', 'gz2-catalogue', 2)):
        made = make_sample(40, seed=seed, folder=folder/name, campaign=campaign)
        (made/'images_training_rev1').rename(made/'images')
        pd.read_csv(made/'votes.csv').assign(ra=1.5, dec=2.5).to_csv(made/'votes.csv', index=False)


@pytest.mark.parametrize('page', [pytest.param(o, id=o.stem, marks=[pytest.mark.site]*(o.stem != 'README')) for o in PAGES])
def test_commands(page, command, galaxies, tmp_path):
    zipped(galaxies, tmp_path/'galaxy-zoo')
    if page.stem == 'README': surveys(tmp_path)
    for line in filter(None, ''.join(blocks(page, 'sh')).splitlines()):
        for part in line.split(' && '):
            if part.startswith(ELSEWHERE): continue
            name, args = small(part, tmp_path)
            for run in [a for a, b in zip(args, ['', *args]) if a.startswith('runs/') and b not in ('--out', '--config') and not (tmp_path/a).exists()]:   # made on another page
                copied(tiny_run(arch='vgg7'), tmp_path/run)
            res = command(name, *args)
            assert res.returncode == 0, (part, res.stdout[-2000:], res.stderr[-2000:])


def test_python_of_the_readme(cache, tmp_path):
    "Its blocks are one script"
    text = ''.join(blocks(ROOT/'README.md', 'python'))
    short = text.replace('fit_one_cycle(12)', 'fit_one_cycle(1)').replace('size=64', 'size=32')
    assert 'sample(60)' in short and 'cycle(1)' in short and 'size=32' in short
    env = dict(os.environ, GZ_FASTAI_CACHE=str(cache), MPLBACKEND='Agg')
    res = subprocess.run([sys.executable, '-c', short], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert res.returncode == 0, res.stderr


def test_readme_is_short():
    assert len((ROOT/'README.md').read_text(encoding='utf-8').split()) < 1350


def test_tutorials_open_in_colab():
    for nb in (ROOT/'nbs'/'tutorials').glob('*.ipynb'):
        assert f'colab.research.google.com/github/gz-fastai/gz_fastai/blob/main/nbs/tutorials/{nb.name})' in text_of(nb), nb.name
        assert 'pip install' in nb.read_text(encoding='utf-8'), nb.name
