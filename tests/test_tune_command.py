"gz_fastai_tune: a study that is killed, shared, refused and used."
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest

from gz_fastai.training import tune

ARGS = ['--arch', 'test_resnet', '--size', '32', '--epochs', '1', '--trial-epochs', '3', '--seeds', '1', '--space', 'bs=[16]', '--space', 'lr={low=1e-4, high=2e-2, log=true}', '--out', 'study']


@pytest.fixture
def small(tmp_path):
    (tmp_path/'small.toml').write_text('bs = 16\nprecision = "fp32"\n')
    return ['--config', 'small.toml']


def start(cache, tmp_path, *args):
    env = dict(os.environ, GZ_FASTAI_CACHE=str(cache))
    return subprocess.Popen([Path(sys.executable).parent/'gz_fastai_tune', *map(str, args)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def study(tmp_path):
    return optuna.load_study(study_name='gz_fastai', storage=optuna.storages.RDBStorage(f'sqlite:///{tmp_path}/study/study.db', skip_table_creation=True))


def running(tmp_path, epochs=0):
    "Wait until a second trial runs; its number"
    end = time.time()+300
    while time.time() < end:
        if (tmp_path/'study'/'trials.log').exists():         # not before: whoever opens a database without tables makes some
            now = [t for t in study(tmp_path).trials if t.state == optuna.trial.TrialState.RUNNING and t.number > 0 and len(t.intermediate_values) >= epochs]
            if now: return now[0].number
        time.sleep(.1)
    raise AssertionError('no second trial')


def test_killed_shared_and_finished(command, galaxies, cache, tmp_path, small):
    args = ['--data', galaxies, *small, '--trials', 4, *ARGS]
    first = start(cache, tmp_path, *args)
    lost = running(tmp_path, epochs=1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path/'study'/'best.toml').exists()
    pair = [start(cache, tmp_path, *args) for _ in range(2)]         # the same command resumes, and a second process joins
    said = [p.communicate(timeout=500)[0] for p in pair]
    assert [p.returncode for p in pair] == [0, 0], said
    trials = study(tmp_path).trials
    assert trials[lost].state.name == 'FAIL' and any(t.params == trials[lost].params and t.number > lost for t in trials)   # noticed, and tried again
    ended = pd.read_csv(tmp_path/'study'/'trials.csv')
    assert len(ended) == 4 and set(ended.state) == {'complete'}      # the first four are not pruned
    assert all('trial ' in o for o in said), said                    # both had some of the trials
    assert sum('best.toml: ' in o for o in said) == 1 and sum('another process' in o for o in said) == 1, said
    res = command('gz_fastai_tune', *args)
    assert res.returncode == 0 and 'study holds this study, finished' in res.stdout, res.stderr
    res = command('gz_fastai_train', '--config', 'study/best.toml', '--data', galaxies, '--out', 'run')
    assert res.returncode == 0, res.stderr


def test_a_failed_trial_has_its_reason(command, galaxies, tmp_path, small, monkeypatch):
    "The second trial diverges: the study continues, and says why"
    real, calls = tune.train, []
    def train(cfg, cbs=()):
        calls.append(cfg)
        if len(calls) == 2: raise FloatingPointError('the training diverged')
        return real(cfg, cbs)
    monkeypatch.setattr(tune, 'train', train)
    res = command('gz_fastai_tune', '--data', galaxies, *small, '--trials', 3, *ARGS)
    assert res.returncode == 0, res.stderr
    trials = pd.read_csv(tmp_path/'study'/'trials.csv')
    assert trials.state.tolist() == ['complete', 'fail', 'complete']
    assert trials.reason.isna().tolist() == [True, False, True] and trials.reason[1] == 'the training diverged'


@pytest.mark.parametrize('args, word', [
    (['--space', 'bs=['], 'TOML'),
    (['--space', 'epochs=[3, 4]'], "cannot search 'epochs'"),
    (['--space', 'bs=[32]', '--out', 'x'], 'bs 128 lies outside'),
    (['--arch', 'vgg7,resnt18'], 'resnt18'),
    (['--trials', '0'], 'trials must be'),
    (['--storage', 'nothing://'], 'cannot be opened'),
    (['--data', 'nowhere'], 'nowhere: '),
])
def test_what_is_wrong_is_one_line(command, galaxies, args, word):
    res = command('gz_fastai_tune', '--data', galaxies, *args)
    assert res.returncode == 2 and word in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr


@pytest.fixture
def postgres(tmp_path_factory):
    "The URL of an empty database on a PostgreSQL server of its own"
    pytest.importorskip('psycopg')
    programs = sorted(Path('/usr/lib/postgresql').glob('*/bin'))[-1:] or [Path(o).parent for o in filter(None, [shutil.which('initdb')])]
    if not programs: pytest.skip('no PostgreSQL here')
    folder = Path(tempfile.mkdtemp(prefix='gz_fastai-pg-', dir='/tmp'))       # a path to a socket may have 107 bytes
    user = []
    if os.geteuid() == 0:      # it refuses to run as root
        if not shutil.which('runuser') or subprocess.run(['id', 'postgres'], capture_output=True).returncode: pytest.skip('no user postgres here')
        shutil.chown(folder, 'postgres')
        user = ['runuser', '-u', 'postgres', '--']
    def run(program, *args): subprocess.run([*user, programs[0]/program, *args], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    run('initdb', '-D', folder/'db', '-U', 'gz', '--auth', 'trust')
    run('pg_ctl', '-D', folder/'db', '-w', '-l', folder/'log', '-o', f"-k {folder} -c listen_addresses=''", 'start')
    yield f'postgresql://gz:secret@/postgres?host={folder}'
    run('pg_ctl', '-D', folder/'db', '-w', '-m', 'immediate', 'stop')
    shutil.rmtree(folder)


def test_three_workers_on_an_empty_postgresql(galaxies, cache, tmp_path, small, postgres):
    "They begin at once, and one is killed in the middle of a trial: none is lost or counted twice"
    args = ['--data', galaxies, *small, '--trials', 5, *ARGS, '--storage', postgres]
    workers = [start(cache, tmp_path, *args) for _ in range(3)]
    def trials():
        try: return optuna.load_study(study_name='gz_fastai', storage=optuna.storages.RDBStorage(postgres.replace('sql:', 'sql+psycopg:'), skip_table_creation=True)).trials
        except Exception: return []      # no tables or no study yet
    def begun(): return [t for t in trials() if t.state.name == 'RUNNING' and t.intermediate_values]
    end = time.time()+300
    while not (running := begun()):
        assert time.time() < end and any(p.poll() is None for p in workers)
        time.sleep(.1)
    lost = running[0]
    killed = next(p for p in workers if p.pid == lost.user_attrs['begun'])
    killed.kill()
    said = [p.communicate(timeout=500)[0] for p in workers]
    assert [p.returncode for p in workers if p is not killed] == [0, 0], said
    ended = pd.read_csv(tmp_path/'study'/'trials.csv')
    assert len(ended) == 5 and set(ended.state) <= {'complete', 'pruned'} and ended.trial.is_unique
    left = [t for t in trials() if t.number not in set(ended.trial)]
    assert lost.number in [t.number for t in left]
    assert all(t.state.name == 'FAIL' and any(o.params == t.params and o.number > t.number for o in trials()) for t in left), left    # tried again
    assert sum('best.toml: ' in o for o in said) == 1, said
    assert 'secret' not in (tmp_path/'study'/'experiment.json').read_text()


OPEN = """
import sys, time
from pathlib import Path
from gz_fastai.training.tune import open_study
Path(sys.argv[2]).touch()
while not Path('go').exists(): time.sleep(.001)
print(len(open_study('x', sys.argv[1], 3).trials))
"""


def test_processes_without_a_common_folder_find_an_empty_database(postgres, tmp_path):
    "They make the same tables at the same moment"
    three = [subprocess.Popen([sys.executable, '-c', OPEN, postgres, f'ready{i}'], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(3)]
    end = time.time()+300
    while len([*tmp_path.glob('ready*')]) < 3:
        assert time.time() < end and all(p.poll() is None for p in three)
        time.sleep(.1)
    (tmp_path/'go').touch()
    for p in three:
        out, err = p.communicate(timeout=120)
        assert (p.returncode, out) == (0, '0\n'), err
