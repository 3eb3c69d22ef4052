"""Made these folders with gz_fastai 0.1.0: a finished run, an interrupted one, a cross-validation, a study.

Run it with that version, in an empty folder. The network is a VGG7 of a sixteenth of the width, so that the files are small.
"""
from pathlib import Path

from gz_fastai.checkpoint import Checkpoint
from gz_fastai.config import Config
from gz_fastai.crossval import crossval
from gz_fastai.inference import predict_images
from gz_fastai.models import VGG7
from gz_fastai.run import train
from gz_fastai.sample import make_sample
from gz_fastai.tune import tune
from timm.models import build_model_with_cfg, register_model


@register_model
def vgg7_tiny(pretrained=False, **kwargs):
    return build_model_with_cfg(VGG7, 'vgg7_tiny', pretrained, feature_cfg=dict(flatten_sequential=True), width=1/16, **kwargs)


make_sample(60, folder='galaxies')
small = dict(data='galaxies', arch='vgg7_tiny', size=32, hidden=[8], bs=8, precision='fp32', device='cpu')
train(Config(**small, epochs=2, out='run'))
predict_images('run', 'galaxies/images_training_rev1', 'run-predictions.csv')
train(Config(**small, epochs=4, ema=.9, out='whole'))
Path('whole/valid.csv').rename('stopped-valid.csv')     # what the interrupted run has to end with
crossval(Config(**small, epochs=1, folds=2, out='crossval'))
tune(Config(**small, epochs=1, out='study'), trials=3, trial_epochs=1, seeds=1, space=['bs=[8, 16]'])     # study/again and its networks are left out


def interrupted(self, real=Checkpoint.after_epoch):
    real(self)
    if self.epoch == 1: raise KeyboardInterrupt


Checkpoint.after_epoch = interrupted
train(Config(**small, epochs=4, ema=.9, out='stopped'))
