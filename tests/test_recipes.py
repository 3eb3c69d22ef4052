"Every recipe is a config that trains: here on a few galaxies, a small network with random weights in place of a pretrained ResNet-50."
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from gz_fastai.training.config import Config
from gz_fastai.training.train import train

RECIPES = sorted((Path(__file__).parent.parent/'recipes').glob('*.toml'))


def test_there_are_recipes(): assert {'full', 'lora-resnet50'} <= {o.stem for o in RECIPES}


@pytest.mark.parametrize('file', RECIPES, ids=lambda o: o.stem)
def test_dry_run(file, galaxies, tmp_path, monkeypatch):
    monkeypatch.setenv('GZ_FASTAI_CACHE', str(tmp_path))
    requested = Config.read(file)
    arch = 'resnet10t' if requested.arch == 'resnet50' else requested.arch
    small = dict(arch=arch, data=galaxies, epochs=1, minutes=None, size=32, bs=8, out=tmp_path/'run')
    if requested.pretrained:
        torch.manual_seed(1234)     # not the weights that the run would start from anyway
        save_file(timm.create_model(arch, num_classes=0).state_dict(), tmp_path/'weights.safetensors')
        small |= dict(pretrained=False, weights=tmp_path/'weights.safetensors')
    run = train(Config.read(file, **small))
    assert len(run.history) == 1 and 0 < run.metrics['rmse'] < .5
    assert run.model()[2]['arch'] == arch
