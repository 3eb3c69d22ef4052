"Predictions, in shards and in one table, that are interrupted, shared and damaged: by the functions that the command calls."
import contextlib
import io
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import IMAGES
from tiny import copied, tiny_run

from gz_fastai.core import BadInput, locked
from gz_fastai.data.tables import read_fractions
from gz_fastai.data.schema import GZ2
from gz_fastai.data.store import read_stored
from gz_fastai.experiment import read_record
from gz_fastai.inference.ensemble import member_runs
from gz_fastai.inference.predict import Shards, predict_images
from gz_fastai.inference.predictor import Predictor


@pytest.fixture
def run(): return tiny_run()


@pytest.fixture
def images(galaxies, tmp_path, monkeypatch):
    "50 images, one of which cannot be read"
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(tmp_path/'cache'))
    (tmp_path/'images').mkdir()
    for o in sorted((galaxies/IMAGES).iterdir())[:50]: shutil.copy(o, tmp_path/'images')
    sorted((tmp_path/'images').iterdir())[20].write_bytes(b'')
    return tmp_path/'images'


@pytest.fixture
def stop_at(monkeypatch):
    "Interrupt the n-th batch that is predicted from now on; the sizes of all batches"
    def stop(n):
        calls, real = [], Predictor.__call__
        def stopping(self, pixels):
            calls.append(len(pixels))
            if len(calls) == n: raise KeyboardInterrupt
            return real(self, pixels)
        monkeypatch.setattr(Predictor, '__call__', stopping)
        return calls
    return stop


def predicting(value): return lambda self, px: torch.full((len(px), len(GZ2)), value)


def table(out): return pd.read_parquet(out/'predictions')


def test_a_shard_that_is_interrupted_leaves_nothing(run, images, stop_at, tmp_path):
    "The next process does that one and the rest, and nothing twice"
    calls = stop_at(4)
    with contextlib.suppress(KeyboardInterrupt): predict_images(run, images, tmp_path/'cut', shards=5, bs=5)
    assert [o.name for o in (tmp_path/'cut'/'predictions').iterdir()] == ['part-00000.parquet']
    assert read_record(tmp_path/'cut').state == 'running'
    predict_images(run, images, tmp_path/'cut', shards=5, bs=5)
    assert len(calls) == 3+1+8
    predict_images(run, images, tmp_path/'whole', shards=4)
    np.testing.assert_allclose(table(tmp_path/'cut')[GZ2.columns], table(tmp_path/'whole')[GZ2.columns], atol=1e-6)      # one row is empty


def test_a_shard_that_another_process_does_is_left_to_it(run, images, tmp_path, monkeypatch):
    "Unless it is asked for: then it is waited for"
    busy = tmp_path/'busy'
    predict_images(run, images, busy, shards=4, shard=0)
    with locked(busy/'.work'/'shard2'): assert predict_images(run, images, busy, shards=4)['missing'] == [2]
    held, waited = threading.Event(), threading.Event()
    def hold():
        with locked(busy/'.work'/'shard2'):
            held.set()
            waited.wait(60)
    class Stderr(io.StringIO):
        def write(self, text): waited.set() if 'working on shard 2' in text else None
    other = threading.Thread(target=hold)
    other.start(), held.wait()
    monkeypatch.setattr('sys.stderr', Stderr())
    assert predict_images(run, images, busy, shards=4, shard=2)['missing'] == []
    assert waited.is_set()


def test_killed_before_the_manifest_and_moved(run, images, tmp_path, monkeypatch):
    "It ends from another folder, with a copy of the run"
    out = tmp_path/'out'
    predict_images(run, images, out, shards=4)
    (out/'manifest.json').unlink()
    rec = read_record(out)
    rec.state = 'running'
    rec.write()
    copied(run, tmp_path/'copy')
    monkeypatch.chdir(tmp_path)
    predict_images('copy', 'images', 'out', shards=4)
    assert (out/'manifest.json').exists()


@pytest.mark.parametrize('damage', [lambda f: f.write_bytes(f.read_bytes()[:-9]), lambda f: shutil.copy(f.with_name('part-00001.parquet'), f)], ids=['cut', 'another shard'])
def test_a_damaged_shard_is_named(run, images, tmp_path, damage):
    predict_images(run, images, tmp_path/'out', shards=4)
    damage(Shards(tmp_path/'out', 4, None).file(3))
    with pytest.raises(BadInput, match='part-00003.parquet'): predict_images(run, images, tmp_path/'out', shards=4)
    Shards(tmp_path/'out', 4, None).file(3).unlink()
    assert predict_images(run, images, tmp_path/'out', shards=4)['missing'] == []


def test_an_interrupted_table_resumes(galaxies, stop_at, tmp_path, monkeypatch):
    "No shard is predicted twice, other settings are refused, and nothing is stored on the way but predictions"
    monkeypatch.setattr('gz_fastai.inference.predict._PART', 20)
    runs = [tiny_run(seed=s) for s in (0, 1)]
    def whole(**kw): return predict_images(runs, galaxies/IMAGES, tmp_path/'out.csv', **dict(views=8, bs=10, precision='fp32') | kw)
    calls = stop_at(6)
    with contextlib.suppress(KeyboardInterrupt): whole()
    assert [o.name for o in (tmp_path/'out.csv.partial'/'predictions').iterdir()] == ['part-00000.parquet']
    assert sum(o.stat().st_size for o in tmp_path.rglob('*') if o.is_file()) < 10**5
    with pytest.raises(BadInput, match='views was 8, is now 16'): whole(views=16)
    ids = [o.stem for o in sorted((galaxies/IMAGES).iterdir())]
    (tmp_path/'turned.csv').write_text('\n'.join(['GalaxyID', *ids[::-1]]))
    with pytest.raises(BadInput, match='images was'): whole(ids=tmp_path/'turned.csv')
    whole()
    assert sum(calls) <= 2*(80+20)      # two runs; one shard may have been half done
    assert not (tmp_path/'out.csv.partial').exists()
    pixels = np.stack([read_stored(o, 180, 32) for o in sorted((galaxies/IMAGES).iterdir())])
    mean = sum(Predictor(o, views=8, precision='fp32')(pixels) for o in runs)/2
    np.testing.assert_allclose(read_fractions(tmp_path/'out.csv')[GZ2.columns], mean, atol=1e-6)


@pytest.mark.parametrize('place', ['write_json', 'discard'])
def test_a_kill_when_everything_is_predicted(run, images, tmp_path, monkeypatch, place):
    "The same call writes what is missing, without the network; and then there is nothing to do"
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(f'gz_fastai.inference.predict.{place}', stop)
        with contextlib.suppress(KeyboardInterrupt): predict_images(run, images, tmp_path/'cut.csv')
    written = (tmp_path/'cut.csv').read_bytes()
    monkeypatch.setattr(Predictor, '__call__', None)
    for _ in range(2): predict_images(run, images, tmp_path/'cut.csv')
    assert (tmp_path/'cut.csv').read_bytes() == written
    assert sorted(o.name for o in tmp_path.glob('cut.csv*')) == ['cut.csv', 'cut.csv.json']


def test_a_table_of_unreadable_images_is_none(run, tmp_path):
    (tmp_path/'images').mkdir()
    for i in range(3): (tmp_path/'images'/f'{i}.jpg').write_bytes(b'')
    with pytest.raises(BadInput, match='no image can be read; the first, .*0.jpg'): predict_images(run, tmp_path/'images', tmp_path/'x.csv')
    assert not list(tmp_path.glob('x.csv*'))


def test_predictions_that_are_no_numbers(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, '__call__', predicting(torch.nan))
    with pytest.raises(RuntimeError, match='NaN'): predict_images(run, images, tmp_path/'nan.csv')
    with pytest.raises(RuntimeError, match='NaN'): predict_images(run, images, tmp_path/'nan', shards=2)
    assert read_record(tmp_path/'nan').state == 'failed'


def test_names_and_runs_that_cannot_be(run, images, tmp_path):
    with pytest.raises(BadInput, match='too long'): predict_images(run, images, tmp_path/('n'*246+'.csv'))
    with pytest.raises(BadInput, match='twice'): member_runs([run.path, run.path/'..'/run.path.name])
    file = next(images.iterdir())
    shutil.copy(file, file.with_suffix('.png'))
    with pytest.raises(BadInput, match='several images'): predict_images(run, images, tmp_path/'x.csv')


def test_names_that_look_like_numbers_stay_names(run, galaxies, tmp_path):
    (tmp_path/'odd').mkdir()
    for f, n in zip(sorted((galaxies/IMAGES).iterdir()), ('000123', '1e5', 'NA')): shutil.copy(f, tmp_path/'odd'/f'{n}.jpg')
    predict_images(run, tmp_path/'odd', tmp_path/'odd.csv')
    assert read_fractions(tmp_path/'odd.csv').GalaxyID.tolist() == ['000123', '1e5', 'NA']
