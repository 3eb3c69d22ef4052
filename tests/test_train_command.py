"gz_fastai_train: its help, its refusals, and what it leaves behind."
import json
import os
import re
import signal
import subprocess
import time

import pandas as pd
import pytest
import torch
from conftest import BIN

from gz_fastai.core import cache_home
from gz_fastai.data.schema import GZ2

COMMANDS = ['train', 'crossval', 'tune', 'predict', 'report', 'explore', 'export', 'baseline', 'data']
FILES = ['experiment.json', 'history.csv', 'metrics.json', 'model.json', 'model.safetensors', 'report.html', 'trained_on.csv', 'valid.csv', 'valid_labels.csv']


@pytest.mark.quick
@pytest.mark.parametrize('name', COMMANDS)
def test_help_is_installed_and_fits_the_screen(command, name):
    res = command(f'gz_fastai_{name}', '--help', bin=BIN)
    assert res.returncode == 0 and not res.stderr
    lines = res.stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    assert '_' not in ''.join(re.findall(r'--[\w-]+', res.stdout))


@pytest.mark.quick
@pytest.mark.parametrize('name, args', [('train', '--help'), ('predict', '--help'), ('train', '--size 8'), ('train', '--data none'), ('train', '--out file/run'), ('tune', '--out full'),
                                        ('predict', 'none --images full --out p.csv'), ('predict', 'full --images full --out p.csv --form votes'),
                                        ('predict', 'full --images full --out p.csv --form concentrations --std'), ('export', 'full --to onnx --precision bf16 --out p.onnx')])
def test_help_and_cheap_refusals_import_nothing_heavy(tmp_path, name, args):
    (tmp_path/'file').touch()
    (tmp_path/'full').mkdir()
    (tmp_path/'full'/'thesis.tex').touch()
    code = f'import sys\nfrom gz_fastai.cli import {name}_command\ntry: {name}_command({args.split()})\nexcept SystemExit as e: print(e.code, *sys.modules)'
    res = subprocess.run([BIN/'python', '-c', code], cwd=tmp_path, capture_output=True, text=True)
    status, *modules = res.stdout.splitlines()[-1].split()
    assert status == ('0' if args == '--help' else '2') and len(res.stderr.splitlines()) == (args != '--help'), res.stderr
    assert 'gz_fastai.cli' in modules
    assert not {*modules} & {'torch', 'fastai', 'timm', 'pandas', 'numpy', 'optuna', 'matplotlib'}


@pytest.mark.quick
def test_a_command_says_that_it_has_started(command, tmp_path):
    "Before it imports PyTorch; its errors stay one line"
    res = command('gz_fastai_report', tmp_path, bin=BIN)
    assert res.returncode == 2 and len(res.stderr.splitlines()) == 1 and res.stdout.splitlines()[0].endswith('importing PyTorch and fastai')


@pytest.mark.quick
def test_archs_are_listed(command):
    res = command('gz_fastai_train', '--list-archs', 'vgg*')
    assert res.returncode == 0 and {'vgg7', 'vgg11', 'vgg16'} <= set(res.stdout.split()) and 'resnet50' not in res.stdout
    assert 'no arch' in command('gz_fastai_train', '--list-archs', 'nothing-like-it').stdout


def refused(res, *words):
    "Exit status 2 and one line that has `words`"
    assert res.returncode == 2, (res.returncode, res.stdout, res.stderr)
    lines = [o for o in res.stderr.splitlines() if o.startswith('gz_fastai_train: ')]
    assert len(lines) == 1 and 'Traceback' not in res.stderr, res.stderr
    for w in words: assert w in lines[0], lines[0]
    assert 'epoch' not in res.stdout.replace('epochs', '')   # nothing was trained


@pytest.mark.quick
def test_bad_data_is_one_line_and_leaves_no_folder(command, damaged, tmp_path):
    "The kinds of damage are tested where labels and images are read"
    (damaged/'images_training_rev1'/'1000007.jpg').write_bytes(b'')
    refused(command('gz_fastai_train', '--data', damaged, '--out', 'run'), '1000007.jpg: ')
    assert not (tmp_path/'run').exists()


@pytest.mark.quick
def test_bad_validation_list(command, galaxies, tmp_path):
    (tmp_path/'ids.csv').write_text('GalaxyID\n1000003\n5\n')
    refused(command('gz_fastai_train', '--data', galaxies, '--valid', 'ids.csv'), 'ids.csv line 3 (GalaxyID 5): ')


def test_a_run(command, galaxies, tmp_path):
    (tmp_path/'ids.csv').write_text('GalaxyId\n' + '\n'.join(str(1000001+i) for i in range(10)))
    (tmp_path/'small.toml').write_text('bs = 16\nhidden = [32]\n')
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--valid', 'ids.csv', '--config', 'small.toml', '--out', 'run']
    res = command('gz_fastai_train', *args, '--activation', 'sigmoid', bin=BIN)
    assert res.returncode == 0, res.stderr
    assert 'RMSE on 10 synthetic validation galaxies' in res.stdout
    assert [n for n in ('test_resnet', 'noise floor', 'mean label', 'all zeros', 'all ones') if f'\n  {n} ' not in res.stdout] == []
    assert '\r' not in res.stdout and 'epoch 0' in res.stdout      # plain lines where there is no terminal
    out = tmp_path/'run'
    assert sorted(o.name for o in out.iterdir()) == FILES
    record = json.loads((out/'experiment.json').read_text())
    wanted = dict(arch='test_resnet', bs=16, hidden=[32], size=32, activation='sigmoid', seed=0, lr=None)
    assert record['requested'] | wanted == record['requested'] and record['resolved']['lr'] > 0
    assert (record['kind'], record['state'], record['format']) == ('run', 'finished', 2)
    assert pd.read_csv(out/'valid.csv').columns.tolist() == ['GalaxyID', *GZ2.columns]
    assert len(pd.read_csv(out/'history.csv')) == 1
    # its folder is left as it is; so is one that holds something else, and an unfinished run with other settings
    before = {o.name: o.stat().st_mtime_ns for o in out.iterdir()}
    refused(command('gz_fastai_train', *args), 'run: ')
    assert before == {o.name: o.stat().st_mtime_ns for o in out.iterdir()}
    (tmp_path/'full').mkdir()
    (tmp_path/'full'/'thesis.tex').write_text('')
    refused(command('gz_fastai_train', *args[:-1], 'full'), 'full: ')
    (out/'experiment.json').write_text(json.dumps(record | dict(state='running')))
    refused(command('gz_fastai_train', *args), "activation was 'sigmoid'", "'softmax'")


def test_a_killed_run_resumes(command, galaxies, cache, tmp_path):
    "The same command after a kill ends with the numbers of a run that was never interrupted"
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', '32', '--epochs', '8']
    straight = command('gz_fastai_train', *args, '--out', 'straight')
    assert straight.returncode == 0, straight.stderr
    env = os.environ | dict(GZ_FASTAI_CACHE=str(cache), OMP_NUM_THREADS=str(torch.get_num_threads()))     # the same sums in the same order
    history = tmp_path/'killed'/'history.csv'
    for number, lines, status in ((signal.SIGUSR1, 1, 75), (signal.SIGKILL, 4, -9)):       # after an epoch; at once
        child = subprocess.Popen([BIN/'gz_fastai_train', *map(str, args), '--out', 'killed'], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until = time.time()+600
        while not (history.exists() and len(history.read_text().splitlines()) > lines) and time.time() < until: time.sleep(.01)
        child.send_signal(number)
        said = child.communicate()[1]
        assert child.returncode == status, said
        assert 'the time is up; run the same command' in said or number == signal.SIGKILL
    assert json.loads((tmp_path/'killed'/'experiment.json').read_text())['state'] == 'running'
    res = command('gz_fastai_train', *args, '--out', 'killed')
    assert res.returncode == 0 and re.search(r'after [4-7] of 8 epochs', res.stdout), (res.stdout, res.stderr)
    a, b = (pd.read_csv(tmp_path/o/'history.csv').drop(columns='time') for o in ('straight', 'killed'))
    assert a.equals(b), (a, b)
    assert pd.read_csv(tmp_path/'straight'/'valid.csv').equals(pd.read_csv(tmp_path/'killed'/'valid.csv'))
    assert sorted(o.name for o in (tmp_path/'killed').iterdir()) == sorted(o.name for o in (tmp_path/'straight').iterdir())


def test_the_main_job(command, tmp_path):
    """The README's first command, in two of its epochs and at half its size: nothing else but an arch. It uses
    the user's cache, where notebooks may have put the sample of 2,000 galaxies."""
    res = command('gz_fastai_train', '--arch', 'vgg7', '--epochs', 2, '--size', 32, timeout=2400, bin=BIN, GZ_FASTAI_CACHE=str(cache_home()))
    assert res.returncode == 0, res.stderr
    assert 'synthetic sample' in res.stdout
    run, = (tmp_path/'runs').iterdir()
    m = json.loads((run/'metrics.json').read_text())
    assert m['noise_floor'] < m['rmse'] < .85*m['baselines']['mean label'] < m['baselines']['all zeros']
    assert f'{m["rmse"]:.4f}' in res.stdout
