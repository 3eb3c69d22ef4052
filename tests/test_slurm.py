"The batch scripts as jobs of a real cluster of one node, which the test starts; it needs Slurm, munge and root."
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import BIN

from gz_fastai.core import read_json

RECIPES = Path(__file__).parent.parent/'recipes'
PROGRAMS = 'munged slurmctld slurmd sbatch squeue scontrol scancel'.split()
CONF = '''
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmctldPort={port}
SlurmdPort={port2}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=100000 Gres=gpu:4 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
'''


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture(scope='module')
def cluster():
    "The environment of a cluster of one node"
    os.environ['PATH'] += ':/usr/sbin'
    missing = [o for o in PROGRAMS if not shutil.which(o)]
    if missing or os.geteuid(): pytest.skip(f'no {", ".join(missing)} here' if missing else 'slurmd needs root')
    folder = Path(tempfile.mkdtemp(prefix='gz_fastai-slurm-', dir='/tmp'))
    for o in ('state', 'spool'): (folder/o).mkdir()
    (folder/'slurm.conf').write_text(CONF.format(folder=folder, host=socket.gethostname().split('.')[0], port=free_port(), port2=free_port()))
    for i in range(4): (folder/f'gpu{i}').touch()
    (folder/'gres.conf').write_text(f'Name=gpu File={folder}/gpu[0-3]\n')
    (folder/'munge.key').write_bytes(os.urandom(1024))
    (folder/'munge.key').chmod(0o400)
    env = os.environ | dict(SLURM_CONF=str(folder/'slurm.conf'))
    files = [f'--{o}={folder}/{name}' for o, name in (('key-file', 'munge.key'), ('socket', 'munge.socket'), ('pid-file', 'munged.pid'), ('log-file', 'munged.log'), ('seed-file', 'munged.seed'))]
    for program in (['munged', '--force', *files], ['slurmctld'], ['slurmd']): subprocess.run(program, env=env, check=True, timeout=60)
    yield env
    for name in ('slurmd', 'slurmctld', 'munged'):
        try: os.kill(int((folder/f'{name}.pid').read_text()), 15)
        except (OSError, ValueError): pass
    time.sleep(2)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def submit(cluster, cache, tmp_path):
    "Submit a recipe as it is; the job's number"
    env = {k: v for k, v in cluster.items() if k != 'PYTHONPATH'} | dict(PATH=f'{BIN}:{cluster["PATH"]}', GZ_FASTAI_CACHE=str(cache))
    def run(name, *args):
        res = subprocess.run(['sbatch', RECIPES/f'{name}.sbatch', *map(str, args)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert res.returncode == 0, res.stderr
        return re.search(r'\d+', res.stdout)[0]
    return run


@pytest.fixture
def ask(cluster):
    return lambda *args: subprocess.run(list(map(str, args)), env=cluster, capture_output=True, text=True, timeout=60).stdout


def until(what, seconds=300):
    end = time.time()+seconds
    while not (res := what()):
        assert time.time() < end, 'this did not come'
        time.sleep(.2)
    return res


@pytest.fixture
def ended(ask): return lambda job: until(lambda: not ask('squeue', '-h', '-j', job).strip())


def test_a_training_is_queued_again_and_resumes(submit, ask, ended, command, galaxies, tmp_path):
    (tmp_path/'small.toml').write_text('bs = 16\nprecision = "fp32"\n')
    args = ['--config', 'small.toml', '--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--epochs', 12]
    job = submit('train', *args, '--out', 'run')
    until((tmp_path/'run'/'history.csv').exists)
    ask('scancel', '--signal=USR1', job)
    log = tmp_path/f'galaxies-{job}.log'
    until(lambda: 'the time is up; run the same command' in log.read_text())
    done = len(pd.read_csv(tmp_path/'run'/'history.csv'))
    assert 0 < done < 12
    until(lambda: 'PENDING' in ask('scontrol', 'show', 'job', job))
    ask('scontrol', 'update', f'JobId={job}', 'StartTime=now')      # Slurm would wait for two minutes
    ended(job)
    assert f'resumes after {done} of 12 epochs' in log.read_text()
    res = command('gz_fastai_train', *args, '--out', 'straight')
    assert res.returncode == 0, res.stderr
    a, b = [pd.read_csv(tmp_path/o/'history.csv').drop(columns='time') for o in ('run', 'straight')]
    pd.testing.assert_frame_equal(a, b, rtol=1e-3)


def test_a_survey_and_a_search(submit, ended, command, galaxies, tmp_path):
    (tmp_path/'small.toml').write_text('bs = 16\nprecision = "fp32"\n')
    res = command('gz_fastai_train', '--config', 'small.toml', '--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--out', 'run')
    assert res.returncode == 0, res.stderr
    survey = submit('predict', 'run', '--images', galaxies/'images_training_rev1', '--out', 'sky')
    ended(survey)
    manifest = read_json(tmp_path/'sky'/'manifest.json')
    assert (manifest['images'], manifest['predicted'], len(manifest['shards'])) == (80, 80, 20), [o.read_text() for o in tmp_path.glob('survey-*.log')]
    study = submit('tune', '--config', 'small.toml', '--data', galaxies, '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--trial-epochs', 1, '--trials', 5, '--seeds', 1,
                   '--space', 'bs=[16]', '--space', 'lr={low=1e-4, high=2e-2, log=true}', '--out', 'study')
    ended(study)
    assert len(pd.read_csv(tmp_path/'study'/'trials.csv')) == 5, [o.read_text() for o in tmp_path.glob('study-*.log')]
