"Predictions in shards: processes that are killed, that share the work, and actors of Ray."
import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import BIN, IMAGES
from tiny import tiny_run

from gz_fastai.core import read_json
from gz_fastai.data.schema import GZ2

@pytest.fixture(scope='module')
def run(): return tiny_run().path


@pytest.fixture
def listed(galaxies, tmp_path):
    "A list of 400 images, each galaxy several times"
    files = sorted((galaxies/IMAGES).iterdir())
    (tmp_path/'list.txt').write_text('\n'.join(str(files[i%len(files)]) for i in range(400)))
    return tmp_path/'list.txt'


@pytest.fixture
def started(tmp_path):
    "Start a command as users do, in a process group that ends with the test"
    ours = []
    def start(*args):
        p = subprocess.Popen([BIN/'gz_fastai_predict', *map(str, args)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        ours.append(p)
        return p
    yield start
    for p in ours:
        if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)


def wait_for(what, process=None, seconds=180):
    "What becomes true, while a process runs"
    end = time.time()+seconds
    while not (res := what()):
        assert time.time() < end and (process is None or process.poll() is None), 'this did not come'
        time.sleep(.05)
    return res


def whole(out, command, run, galaxies):
    "Whether a survey of `listed` is complete and says what the plain command says"
    manifest, table = read_json(out/'manifest.json'), pd.read_parquet(out/'predictions')
    assert (manifest['images'], manifest['predicted'], manifest['unreadable'], len(table)) == (400, 400, 0, 400)
    assert table.file_loc.tolist() == (out.parent/'list.txt').read_text().splitlines()
    res = command('gz_fastai_predict', run, '--images', galaxies/IMAGES, '--out', 'plain.csv', '--precision', 'fp32')
    assert res.returncode == 0, res.stderr
    plain = pd.read_csv(out.parent/'plain.csv').set_index('GalaxyID')
    assert abs(plain.loc[table.GalaxyID.astype(int), GZ2.columns].to_numpy()-table[GZ2.columns].to_numpy()).max() < 1e-6
    assert not list(out.rglob('*.partial'))


def args(run, listed, *more): return run, '--images', listed, '--out', 'sky', '--shards', 8, '--precision', 'fp32', *more


def test_killed_and_repeated(command, started, run, listed, galaxies, tmp_path):
    parts = tmp_path/'sky'/'predictions'
    first = started(*args(run, listed, '--bs', 8))
    wait_for(lambda: len(list(parts.glob('part*'))) > 1, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    there = {o: o.stat().st_mtime_ns for o in parts.glob('part*')}
    assert 2 <= len(there) < 8 and not (tmp_path/'sky'/'manifest.json').exists()
    res = command('gz_fastai_predict', *args(run, listed))
    assert res.returncode == 0 and 'sky: 400 images' in res.stdout and '; complete\n' in res.stdout, res.stderr
    assert {o: o.stat().st_mtime_ns for o in there} == there       # predicted once
    whole(tmp_path/'sky', command, run, galaxies)


def test_tasks_of_an_array(command, started, run, listed, galaxies, tmp_path):
    "Two processes with a shard each at once, then one that does what is left"
    both = [started(*args(run, listed, '--shard', k)) for k in (0, 5)]
    for p in both:
        out, err = p.communicate(timeout=300)
        assert p.returncode == 0 and 'not there yet' in out, err
    assert sorted(o.name for o in (tmp_path/'sky'/'predictions').glob('part*')) == ['part-00000.parquet', 'part-00005.parquet']
    res = command('gz_fastai_predict', *args(run, listed))
    assert 'shard 0 of' not in res.stdout and 'shard 7 of 8: 50 images' in res.stdout
    whole(tmp_path/'sky', command, run, galaxies)
    for more, why in ((['--shard', 8], 'shard must be 0 to 7'), (['--views', 8], 'other settings (views was 1, is now 8)')):
        res = command('gz_fastai_predict', *args(run, listed, *more))
        assert res.returncode == 2 and why in res.stderr
    res = command('gz_fastai_predict', run, '--images', listed, '--out', 'x.csv', '--embeddings')
    assert res.returncode == 2 and 'embeddings do not fit into a CSV' in res.stderr


def actors():
    "The processes of actors"
    res = []
    for o in Path('/proc').glob('[0-9]*'):
        try: name = (o/'cmdline').read_bytes()
        except OSError: continue
        if name.startswith(b'ray::_Actor.run'): res.append(int(o.name))
    return res


@pytest.mark.services
@pytest.mark.skipif(not Path('/proc/self/cmdline').exists(), reason='no /proc, in which actors are found')
def test_ray(command, started, run, listed, galaxies, tmp_path):
    "An actor is killed, and the job after it; the same command ends it"
    pytest.importorskip('ray')
    ray = args(run, listed, '--engine', 'ray', '--bs', 8)
    first = started(*ray)
    os.kill(wait_for(actors, first)[0], signal.SIGKILL)
    parts = tmp_path/'sky'/'predictions'
    wait_for(lambda: len(list(parts.glob('part*'))) > 1, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_for(lambda: not actors())
    res = started(*ray)
    out, err = res.communicate(timeout=300)
    assert res.returncode == 0 and 'sky: 400 images' in out and out.endswith('; complete\n'), err
    whole(tmp_path/'sky', command, run, galaxies)
