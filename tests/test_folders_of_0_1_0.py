"Folders that version 0.1.0 wrote: a finished run, an interrupted one, a cross-validation and a study are read, resumed and reported."
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from timm.models import build_model_with_cfg, register_model

from gz_fastai.core import BadInput
from gz_fastai.data.sample import make_sample
from gz_fastai.data.schema import GZ2
from gz_fastai.experiment import open_experiment, read_record
from gz_fastai.inference.predict import predict_images
from gz_fastai.model.backbones import VGG7
from gz_fastai.report.pages import write_report
from gz_fastai.training.config import Config
from gz_fastai.training.train import train

OLD = Path(__file__).parent/'folders-0.1.0'
SMALL = dict(data='galaxies', arch='vgg7_tiny', size=32, hidden=[8], bs=8, precision='fp32', device='cpu')     # as in its make.py


@register_model
def vgg7_tiny(pretrained=False, **kwargs):
    return build_model_with_cfg(VGG7, 'vgg7_tiny', pretrained, feature_cfg=dict(flatten_sequential=True), width=1/16, **kwargs)


@pytest.fixture
def old(tmp_path, monkeypatch):
    "A copy of the folders, with the galaxies that they were trained on"
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    make_sample(60, folder=tmp_path/'galaxies')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(tmp_path/'cache'))
    return tmp_path


def test_a_finished_run(old):
    run = open_experiment('run')
    assert (run.kind, run.requested['p_flip'], run.resolved['opt']) == ('run', .5, 'muon')
    predict_images('run', 'galaxies/images_training_rev1', 'again.csv', precision='fp32')
    then, now = [pd.read_csv(o, dtype={'GalaxyID': str}) for o in ('run-predictions.csv', 'again.csv')]
    assert then.GalaxyID.tolist() == now.GalaxyID.tolist()
    np.testing.assert_allclose(now[GZ2.columns], then[GZ2.columns], atol=1e-4)
    assert f'{run.metrics["rmse"]:.4f}' in write_report(run).read_text()
    before = {o.name: o.stat().st_mtime_ns for o in Path('run').iterdir()}
    train(Config(**SMALL, epochs=2, out='run'))     # the same again: nothing to do
    assert {o.name: o.stat().st_mtime_ns for o in Path('run').iterdir()} == before
    with pytest.raises(BadInput, match='finished'): train(Config(**SMALL, epochs=3, out='run'))


def test_an_interrupted_run_resumes(old, capsys):
    assert read_record('stopped').state == 'running'
    with pytest.raises(BadInput, match='epochs was 4'): train(Config(**SMALL, epochs=5, ema=.9, out='stopped'))
    run = train(Config(**SMALL, epochs=4, ema=.9, out='stopped'))
    assert 'after 2 of 4 epochs' in capsys.readouterr().out
    assert len(run.history) == 4 and read_record('stopped').format == 2
    then = pd.read_csv('stopped-valid.csv', dtype={'GalaxyID': str})
    assert run.predictions.GalaxyID.tolist() == then.GalaxyID.tolist()
    np.testing.assert_allclose(run.predictions[GZ2.columns], then[GZ2.columns], atol=.01)     # Muon rounds differently on other processors


def test_a_cross_validation(old):
    cv = open_experiment('crossval')
    assert (cv.kind, len(cv.runs)) == ('crossval', 2)
    res = predict_images('crossval', 'galaxies/images_training_rev1', 'cv.csv', precision='fp32')
    assert res['runs'] == 2 and not res['trained_on']
    got = pd.read_csv('cv.csv', dtype={'GalaxyID': str}).set_index('GalaxyID')
    np.testing.assert_allclose(got.loc[cv.predictions.GalaxyID], cv.predictions[GZ2.columns], atol=1e-4)
    assert f'{cv.metrics["rmse"]:.4f}' in write_report(cv).read_text()


def test_a_study(old):
    study = open_experiment('study')
    assert (study.kind, len(study.trials), set(study.retrained.config)) == ('study', 3, {'default', study.retrained.config.iloc[-1]})
    assert f'{study.retrained.rmse.min():.4f}' in write_report(study).read_text()
