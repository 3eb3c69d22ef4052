"What a training starts from, and how often its network is built."
import contextlib
import io
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny import tiny_galaxies

from gz_fastai.core import BadInput
from gz_fastai.data.catalog import Catalog
from gz_fastai.model.backbones import galaxy_model
from gz_fastai.model.start import Start
from gz_fastai.training.config import Config
from gz_fastai.training.train import run_from_learner, train


@pytest.fixture(scope='module')
def small():
    return Config(data=str(tiny_galaxies(60)), arch='test_resnet', size=32, epochs=1, bs=16, precision='fp32', device='cpu')


@pytest.fixture(scope='module')
def run(small, tmp_path_factory):
    with contextlib.redirect_stdout(io.StringIO()): return train(replace(small, out=str(tmp_path_factory.mktemp('runs')/'first')))


def built_by(cfg, monkeypatch):
    "How often timm builds a network during a training"
    made, real = [], timm.create_model
    def create_model(*args, **kwargs):
        made.append(args)
        return real(*args, **kwargs)
    with monkeypatch.context() as m, contextlib.redirect_stdout(io.StringIO()):
        m.setattr(timm, 'create_model', create_model)
        train(cfg)
    return len(made)


def test_a_training_builds_its_network_once(small, run, tmp_path, monkeypatch):
    "And once more to read it after it was saved; weights from a file are compared with those of a second network"
    file = tmp_path/'weights.safetensors'
    save_file(timm.create_model('test_resnet').state_dict(), file)
    hard = dict(lr='auto', minutes=.02, size=(24, 32))
    assert built_by(replace(small, out=str(tmp_path/'scratch')), monkeypatch) == 2
    assert built_by(replace(small, weights=str(run.path), out=str(tmp_path/'run'), **hard), monkeypatch) == 2
    assert built_by(replace(small, weights=str(file), out=str(tmp_path/'file'), **hard), monkeypatch) == 3


def test_a_start_is_taken_for_weights(run):
    "It brings the arguments of the network, and belongs to one arch"
    start = Start('test_resnet', weights=run.path)
    model = galaxy_model('test_resnet', 5, weights=start)
    for a, b in zip(model[0].parameters(), run.model()[0][0].parameters()): assert torch.equal(a, b)
    with pytest.raises(BadInput, match='for arch test_resnet, not vgg7'): galaxy_model('vgg7', 5, weights=start)


def test_a_run_goes_on_in_fastai(small, run, tmp_path):
    "Its learner predicts what it did, and becomes a run again, with the arguments of the network"
    cat = Catalog(small.data)
    learn = run.learner(cat, precision='fp32')
    with learn.no_bar(), learn.no_logging():
        pred = learn.get_preds()[0]
        assert abs(pred.numpy()-run.predictions[run.schema.columns]).max(axis=None) < 1e-5
        learn.fit_one_cycle(1, cbs=[])
    again = run_from_learner(learn, cat, tmp_path/'again')
    assert again.info['arch'] == 'test_resnet' and again.info['stats'] == run.info['stats']
