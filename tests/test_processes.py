"One training by several processes: the same scores in all of them, kills of either one, other launchers, refusals."
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
from conftest import BIN

MODULE = [sys.executable, '-m', 'gz_fastai.cli', 'train']


@pytest.fixture
def env(cache, monkeypatch):
    "For children on one core each"
    for k in ('RANK', 'WORLD_SIZE'): monkeypatch.delenv(k, raising=False)
    return {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(GZ_FASTAI_CACHE=str(cache), OMP_NUM_THREADS='1', COLUMNS='80')


def children(pid):
    "The processes that a process has started, by their number in a training"
    res = {}
    for o in Path('/proc').glob('[0-9]*'):
        try:
            if int((o/'stat').read_text().rpartition(')')[2].split()[1]) != pid: continue
            env = dict(e.partition('=')[::2] for e in (o/'environ').read_text().split('\0'))
        except OSError: continue
        if 'RANK' in env: res[int(env['RANK'])] = int(o.name)
    return res


def epochs(out): return max(0, len((out/'history.csv').read_text().splitlines())-1) if (out/'history.csv').exists() else 0
def history(out): return pd.read_csv(out/'history.csv').drop(columns='time')


# without chance, and without batch normalization, which uses the statistics of a share on CPUs
PLAIN = 'arch = "test_vit"\nbs = 16\nhidden = []\nopt = "adam"\nlr = 1e-4\ndrop = 0.0\nrotate = 0.0\np_flip = 0.0\nzoom = 1.0'
SETTINGS = {
    'ema': 'ema = 0.9', 'accumulate': 'accumulate = 2\nclip = 1.0\nopt = "adam"', 'lora': 'finetune = "lora"\nweights = "body.safetensors"',
    'gradual': 'finetune = "gradual"\nweights = "body.safetensors"', 'bf16': 'precision = "bf16"\nloss = "mse"', 'clock': 'minutes = 0.03\nlr = "auto"',
    'votes': 'loss = "likelihood"\ndata = "counts"',
    'plain': f'loss = "mse"\n{PLAIN}', 'plain-rmse': PLAIN}
ALL = '''
import sys
from gz_fastai.core import *
from gz_fastai.distributed import *
from gz_fastai.all import *
from fastai.callback.core import Callback
class Seen(Callback):
    order = 70
    def __init__(self, name): self.out,self.rows = name,[]
    def after_epoch(self): self.rows.append([float(o) for o in self.recorder.log[1:-1]])
    def after_fit(self):
        sums = [float(p.detach().double().sum()) for p in self.model.parameters()]
        write_json(f'{self.out}.{rank()}.json', dict(rows=self.rows, sums=sums, drawn=torch.rand(1).item()))
for name in sys.argv[1:]: train(Config.read(f'{name}.toml', out=name), [Seen(name)])
'''


FEW = 'ema', 'lora', 'votes', 'plain'


@pytest.mark.parametrize('names', [FEW, pytest.param([o for o in SETTINGS if o not in FEW], marks=pytest.mark.services)], ids=['few', 'others'])
def test_scores_are_equal_in_both_processes(command, galaxies, env, tmp_path, names):
    "The scores of an epoch, and what is in the network; the last epoch's are those of one process that validates the saved network"
    from safetensors.torch import save_file
    from gz_fastai.data.sample import make_sample
    from gz_fastai.model.backbones import galaxy_model
    make_sample(80, folder=tmp_path/'counts', campaign='decals-dr5')
    save_file(galaxy_model('test_resnet', 37)[0].state_dict(), tmp_path/'body.safetensors')
    for name, more in ((o, SETTINGS[o]) for o in names):
        data = '' if 'data' in more else f'data = "{galaxies}"\n'
        epochs = '' if 'minutes' in more else 'epochs = 2\n'
        half = '' if 'precision' in more else 'precision = "fp32"\n'
        small = '' if 'arch' in more else 'arch = "test_resnet"\nbs = 15\n'
        (tmp_path/f'{name}.toml').write_text(f'{data}{small}size = 32\n{epochs}{half}{more}\n')
    (tmp_path/'all.py').write_text(ALL)
    code = f'import sys\nfrom gz_fastai.distributed import launch\nprint(*launch([sys.executable, "all.py", *{[*names]}], 2))'
    res = subprocess.run([sys.executable, '-c', code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert res.stdout.splitlines()[-1] == '0 None', res
    for name in names:
        first, second = [json.loads((tmp_path/f'{name}.{i}.json').read_text()) for i in (0, 1)]
        assert first['rows'] == second['rows'] and first['sums'] == second['sums'], name
        assert first['drawn'] != second['drawn']            # each draws its own augmentation
        metrics = json.loads((tmp_path/name/'metrics.json').read_text())
        last = history(tmp_path/name).iloc[-1]
        assert abs(metrics['rmse']-last.rmse) < (1e-2 if name == 'bf16' else 1e-6), name      # metrics are those of float32
        assert name != 'votes' or abs(metrics['nll']-last.nll) < 1e-4*metrics['nll']
        assert len(first['rows']) == len(history(tmp_path/name)) >= 1, name
    for name in {'plain', 'plain-rmse'} & {*names}:       # one process does the same
        res = command('gz_fastai_train', '--config', f'{name}.toml', '--out', f'one-{name}')
        a, b = (history(tmp_path/o)[['train_loss', 'rmse']].to_numpy() for o in (f'one-{name}', name))
        assert res.returncode == 0 and abs(a/b-1).max() < (1e-5 if name == 'plain' else 1e-2), (res, a, b)


@pytest.mark.services
def test_two_processes_learn_what_one_does(command, galaxies, tmp_path, env):
    "Kills of either process: all end soon, with one line, and the same command goes on with the history of an uninterrupted run"
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', '32', '--epochs', '8']
    def run(out, n=2): return subprocess.Popen([BIN/'gz_fastai_train', *map(str, args), '--out', out, '--processes', str(n)], cwd=tmp_path, env=env,
                                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    straight = run('straight')
    said, problem = straight.communicate(timeout=300)
    assert straight.returncode == 0 and not problem and 'shared by 2 processes' in said, problem
    out = tmp_path/'killed'
    for victim, after, number in ((1, 1, signal.SIGKILL), (None, 3, signal.SIGUSR1), (0, 5, signal.SIGKILL)):
        p = run('killed')
        until = time.time()+240
        while epochs(out) < after and time.time() < until and p.poll() is None: time.sleep(.01)
        os.kill(p.pid if victim is None else children(p.pid)[victim], number)
        start = time.time()
        said, problem = p.communicate(timeout=120)
        assert time.time()-start < 60 and len(problem.strip().splitlines()) <= 2, problem
        if victim is None: assert p.returncode == 75 and 'the time is up; run the same command' in problem
        else: assert p.returncode == 1 and f'process {victim+1} of 2: killed by SIGKILL; run the same command with --out FOLDER to resume' in problem
    p = run('killed')
    said, problem = p.communicate(timeout=300)
    assert p.returncode == 0 and re.search(r'after [5-7] of 8 epochs', said), (said, problem)
    assert history(out).equals(history(tmp_path/'straight'))
    assert pd.read_csv(out/'valid.csv').equals(pd.read_csv(tmp_path/'straight'/'valid.csv'))
    assert sorted(o.name for o in out.iterdir()) == sorted(o.name for o in (tmp_path/'straight').iterdir())
    again = command('gz_fastai_train', *args, '--out', 'killed', '--processes', '2', bin=BIN)
    assert again.returncode == 0 and 'holds this run, finished' in again.stdout


ALONE = '''
import sys
from gz_fastai import cli
from gz_fastai.distributed import *
from gz_fastai.model.learner import ShareBatches
what,after_pred = sys.argv.pop(1),ShareBatches.after_pred
def before_step(self):
    if what == 'error' and rank() == 1 and self.epoch == 1: raise ValueError('a tooth is missing')
def with_nan(self):
    if what == 'nan' and rank() == 1 and not self.training: self.learn.pred = self.pred*float('nan')
    after_pred(self)
ShareBatches.before_step,ShareBatches.after_pred = before_step,with_nan
cli.train_command()
'''


@pytest.mark.parametrize('what, line, states', [('error', 'process 2 of 2: the training failed: ValueError: a tooth is missing', ['running', 'failed']),
                                                ('nan', 'the training diverged', ['failed'])], ids=['error', 'nan'])
@pytest.mark.services
def test_what_happens_to_one_ends_both(galaxies, env, tmp_path, what, line, states):
    "An error in the second process alone, and a loss that is no number in its share of the validation galaxies"
    (tmp_path/'alone.py').write_text(ALONE)
    args = [what, '--data', str(galaxies), '--arch', 'test_resnet', '--size', '32', '--epochs', '9', '--out', 'run']
    code = f'import sys\nfrom gz_fastai.distributed import launch\nstatus,line = launch([sys.executable, "alone.py", *{args}], 2, "gz_fastai_train")\nprint(line, file=sys.stderr)\nsys.exit(status)'
    start = time.time()
    res = subprocess.run([sys.executable, '-c', code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert res.returncode == 1 and line in res.stderr and time.time()-start < 100, res
    assert json.loads((tmp_path/'run'/'experiment.json').read_text())['state'] in states


@pytest.mark.services
def test_another_number_goes_on(command, galaxies, tmp_path, env):
    "A run that two processes began, and one ends"
    args = ['--data', galaxies, '--arch', 'test_resnet', '--size', '32', '--epochs', '6', '--out', 'run']
    p = subprocess.Popen([BIN/'gz_fastai_train', *map(str, args), '--processes', '2'], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.time()+240
    while epochs(tmp_path/'run') < 2 and time.time() < until and p.poll() is None: time.sleep(.01)
    p.send_signal(signal.SIGTERM)
    assert p.wait(60) == 143 and not p.stderr.read()
    res = command('gz_fastai_train', *args)
    assert res.returncode == 0 and re.search(r'resumes after [2-5] of 6 epochs', res.stdout), res
    assert epochs(tmp_path/'run') == 6


@pytest.mark.services
def test_torchrun_and_accelerate(galaxies, tmp_path, env):
    "The launchers for several machines start the same training"
    args = ['-m', 'gz_fastai.cli', 'train', '--data', galaxies, '--arch', 'test_resnet', '--size', '32', '--epochs', '1']
    launchers = dict(torchrun=[BIN/'torchrun', '--nproc-per-node', '2'],
                     accelerate=[BIN/'accelerate', 'launch', '--multi_gpu', '--num_processes', '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no'])
    for name, start in launchers.items():
        res = subprocess.run([*map(str, start+args), '--out', name], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert res.returncode == 0 and res.stdout.count('shared by 2 processes') == 1, (name, res)
        assert res.stdout.count('RMSE on') == 1 and (tmp_path/name/'report.html').exists()
    assert history(tmp_path/'torchrun').equals(history(tmp_path/'accelerate'))


@pytest.mark.parametrize('args, words', [
    (['--processes', '0'], 'must be between 1 and 1024, not 0'),
    (['--processes', 'two'], "invalid int value: 'two'"),
    pytest.param(['--processes', '3', '--config', 'small.toml'], 'batches of 5 are too small for 3 processes', marks=pytest.mark.services),
    pytest.param(['--processes', '2', '--config', 'compiled.toml'], 'compile needs a single process; leave it out', marks=pytest.mark.services),
    pytest.param(['--processes=2', '--arch', 'resnet1O1'], 'resnet101', marks=pytest.mark.services)])
def test_refusals_are_one_line(galaxies, tmp_path, env, args, words):
    (tmp_path/'small.toml').write_text('bs = 5\n')
    (tmp_path/'compiled.toml').write_text('compile = true\n')
    res = subprocess.run([BIN/'gz_fastai_train', '--size', '32', '--arch', 'test_resnet', '--data', str(galaxies), *args, '--out', 'run'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert res.returncode == 2 and words in res.stderr and len(res.stderr.strip().splitlines()) == 1, res
    assert not (tmp_path/'run').exists()
