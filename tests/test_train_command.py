"gz_fastai_train as it is installed: its help, its refusals, and what it leaves behind."
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from gz_fastai.schema import GZ2

LABELS, IMAGES = 'training_solutions_rev1.csv', 'images_training_rev1'


def test_help_fits_the_screen(command):
    res = command('gz_fastai_train', '--help')
    assert res.returncode == 0 and not res.stderr
    lines = res.stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    for flag in 'data valid arch pretrained activation size epochs seed out config'.split(): assert f'--{flag}' in res.stdout
    assert 'vgg7' in res.stdout and '_' not in ''.join(re.findall(r'--[\w-]+', res.stdout))


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


@pytest.mark.parametrize('args, words', [
    (['--epoch', '3'], ['unrecognized arguments: --epoch']),
    (['--epochs', 'many'], ["invalid int value: 'many'"]),
    (['--epochs', '0'], ['epochs must be between 1 and']),
    (['--activation', 'tanh'], ['softmax, sigmoid']),
    (['--arch', 'resnt50'], ["no arch 'resnt50'", 'resnet50']),
    (['--data', 'nowhere'], ['nowhere: no such folder']),
    (['--data', '.'], [LABELS]),
    (['--config', 'none.toml'], ['none.toml: No such file']),
    (['--valid', 'ids.csv'], ['give --data']),
    (['--pretrained'], ['no pretrained weights for vgg7']),
    (['--arch', 'vgg11', '--size', '16'], ['takes no images of 16 px', '--size 224']),
    (['--finetune', 'lora'], ['needs pretrained weights']),
    (['--finetune', 'tail'], ['there are all, head, lora, gradual']),
    (['--weights', 'none.pth'], ['none.pth: no such file of weights']),
    (['--epochs', '3', '--minutes', '3'], ['give one of them']),
    (['--lr', 'fast'], ["invalid rate value: 'fast'"]),
])
def test_bad_arguments(command, galaxies, args, words):
    if '--data' not in args and args[0] in ('--pretrained', '--arch', '--weights'): args = [*args, '--data', galaxies, '--out', 'run']
    refused(command('gz_fastai_train', *args), *words)


def edit(folder, change):
    table = pd.read_csv(folder/LABELS)
    change(table).to_csv(folder/LABELS, index=False)


def with_value(column, value):
    def change(t):
        t[column] = t[column].astype(object)
        t.loc[4, column] = value
        return t
    return change


@pytest.mark.parametrize('damage, words', [
    (lambda d: (d/LABELS).unlink(), ['no label file']),
    (lambda d: edit(d, lambda t: t.drop(columns='Class9.2')), ['no column Class9.2']),
    (lambda d: edit(d, lambda t: t.rename(columns={'Class9.2': 'class9_2'})), ["rename 'class9_2'?"]),
    (lambda d: edit(d, lambda t: t.rename(columns={'GalaxyID': 'name'})), ['no column GalaxyID']),
    (lambda d: edit(d, with_value('Class3.1', '')), ['line 6 (GalaxyID 1000005)', 'Class3.1', 'not a number']),
    (lambda d: edit(d, with_value('Class3.1', 'n/a')), ['line 6', 'not a number']),
    (lambda d: edit(d, with_value('Class6.1', -.25)), ['line 6', 'not between 0 and 1']),
    (lambda d: edit(d, lambda t: pd.concat([t, t.iloc[[2]]])), ['line 82 (GalaxyID 1000003)', 'earlier row']),
    (lambda d: edit(d, lambda t: t.iloc[:0]), ['has no rows']),
    (lambda d: (d/IMAGES/'1000007.jpg').unlink(), ['line 8 (GalaxyID 1000007)', 'no image']),
    (lambda d: (d/IMAGES/'1000007.jpg').write_bytes(b''), ['1000007.jpg: cannot be read']),
    (lambda d: (d/IMAGES/'1000007.jpg').write_text('not a picture'), ['1000007.jpg: cannot be read']),
    (lambda d: (d/IMAGES/'1000007.jpg').write_bytes((d/IMAGES/'1000007.jpg').read_bytes()[:2000]), ['1000007.jpg: cannot be read']),
    (lambda d: (d/LABELS).write_bytes(b'\x89PNG\r\n\xff\xfe\0'), [LABELS, 'not a CSV file']),
])
def test_bad_data(command, damaged, tmp_path, damage, words):
    damage(damaged)
    refused(command('gz_fastai_train', '--data', damaged, '--out', 'run'), *words)
    assert not (tmp_path/'run').exists()


def test_bad_validation_list(command, galaxies, tmp_path):
    (tmp_path/'ids.csv').write_text('GalaxyID\n1000003\n5\n')
    refused(command('gz_fastai_train', '--data', galaxies, '--valid', 'ids.csv'), 'ids.csv line 3', 'galaxy 5 has no label')


@pytest.fixture(scope='module')
def timm_run(galaxies, tmp_path_factory):
    "A folder, and the arguments of a short run in it"
    return tmp_path_factory.mktemp('runs')/'run', ['--data', galaxies, '--arch', 'resnet18', '--size', 32, '--epochs', 1]


def test_a_run(command, timm_run, galaxies, tmp_path):
    out, args = timm_run
    (tmp_path/'ids.csv').write_text('GalaxyId\n' + '\n'.join(str(1000001+i) for i in range(10)))
    (tmp_path/'small.toml').write_text('bs = 16\nhidden = [32]\n')
    res = command('gz_fastai_train', *args, '--valid', 'ids.csv', '--activation', 'sigmoid', '--config', 'small.toml', '--out', out)
    assert res.returncode == 0, res.stderr
    assert 'RMSE on 10 synthetic validation galaxies' in res.stdout
    assert [n for n in ('resnet18', 'noise floor', 'mean label', 'all zeros', 'all ones') if f'\n  {n} ' not in res.stdout] == []
    assert '\r' not in res.stdout and 'epoch 0' in res.stdout      # plain lines where there is no terminal
    assert sorted(o.name for o in out.iterdir()) == ['config.json', 'history.csv', 'metrics.json', 'model.json', 'model.safetensors', 'report.html', 'trained_on.csv', 'valid.csv', 'valid_labels.csv']
    config = json.loads((out/'config.json').read_text())
    assert config['asked'] | dict(arch='resnet18', bs=16, hidden=[32], size=32, activation='sigmoid', seed=0) == config['asked']
    assert pd.read_csv(out/'valid.csv').columns.tolist() == ['GalaxyID', *GZ2.columns]
    assert len(pd.read_csv(out/'history.csv')) == 1


def test_a_used_folder_is_refused(command, timm_run, tmp_path):
    out, args = timm_run
    assert (out/'metrics.json').exists(), 'test_a_run did not finish'
    before = {o.name: o.stat().st_mtime_ns for o in out.iterdir()}
    refused(command('gz_fastai_train', *args, '--out', out), 'holds a finished run')
    assert before == {o.name: o.stat().st_mtime_ns for o in out.iterdir()}
    (tmp_path/'full').mkdir()
    (tmp_path/'full'/'thesis.tex').write_text('')
    refused(command('gz_fastai_train', *args, '--out', 'full'), 'is not empty and holds no run')
    (out/'metrics.json').unlink()
    refused(command('gz_fastai_train', *args, '--out', out), 'other settings', 'activation was sigmoid, now softmax')


def test_a_killed_training_goes_on(command, galaxies, cache, tmp_path):
    "The same command after a kill ends with the numbers of one that was never stopped"
    args = ['--data', galaxies, '--arch', 'resnet18', '--size', '32', '--epochs', '8']
    env = dict(GZ_FASTAI_CACHE=str(cache), OMP_NUM_THREADS='1')
    straight = command('gz_fastai_train', *args, '--out', 'straight', **env)
    assert straight.returncode == 0, straight.stderr
    child = subprocess.Popen([Path(sys.executable).parent/'gz_fastai_train', *map(str, args), '--out', 'killed'], cwd=tmp_path, env=os.environ | env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history, until = tmp_path/'killed'/'history.csv', time.time()+240
    while not (history.exists() and len(history.read_text().splitlines()) > 2) and time.time() < until: time.sleep(.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path/'killed'/'metrics.json').exists()
    res = command('gz_fastai_train', *args, '--out', 'killed', **env)
    assert res.returncode == 0 and re.search(r'it goes on after [2-7] of 8 epochs', res.stdout), (res.stdout, res.stderr)
    a, b = (pd.read_csv(tmp_path/o/'history.csv').drop(columns='time') for o in ('straight', 'killed'))
    assert a.equals(b), (a, b)
    assert pd.read_csv(tmp_path/'straight'/'valid.csv').equals(pd.read_csv(tmp_path/'killed'/'valid.csv'))
    assert sorted(o.name for o in (tmp_path/'killed').iterdir()) == sorted(o.name for o in (tmp_path/'straight').iterdir())


def test_the_main_job(command, tmp_path):
    "The README's first command: nothing but an arch"
    res = command('gz_fastai_train', '--arch', 'vgg7', timeout=1200)
    assert res.returncode == 0, res.stderr
    assert 'synthetic sample' in res.stdout
    run, = (tmp_path/'runs').iterdir()
    m = json.loads((run/'metrics.json').read_text())
    assert m['noise_floor'] < m['rmse'] < .7*m['baselines']['mean label'] < m['baselines']['all zeros']
    assert f'{m["rmse"]:.4f}' in res.stdout
