"""Small trained networks for tests and notebooks, made once and kept in the temporary folder until the code that makes them changes.
What they return is shared: copy it before you change it."""
import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from unittest import mock

from timm.models import build_model_with_cfg, register_model

import gz_fastai
from gz_fastai.core import atomic_folder, locked
from gz_fastai.data.sample import make_sample
from gz_fastai.experiment import package_versions
from gz_fastai.model.backbones import VGG7
from gz_fastai.model.runs import CrossVal, Run, Study
from gz_fastai.training.config import Config
from gz_fastai.training.crossval import crossval
from gz_fastai.training.train import train
from gz_fastai.training.tune import tune


@register_model
def vgg7_tiny(pretrained=False, **kwargs):
    "A narrow VGG7, which trains in seconds"
    return build_model_with_cfg(VGG7, 'vgg7', pretrained, feature_cfg=dict(flatten_sequential=True), width=1/8, **kwargs)


def _home():
    "The folder for what this code makes"
    package = Path(gz_fastai.__file__).parent
    files = [Path(__file__), *package.glob('[!_]*.py'), *(o for wing in ('data', 'model', 'training') for o in (package/wing).glob('*.py'))]
    around = [os.environ.get('GZ_FASTAI_PRECISION'), package_versions()]
    code = hashlib.blake2s(json.dumps(around).encode(), digest_size=6)
    for o in sorted(files): code.update(o.read_bytes())
    home = Path(tempfile.gettempdir())/f'gz_fastai-tiny-{getattr(os, "getuid", int)()}'/code.hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    for o in home.parent.iterdir():      # of code that has changed
        if o != home and time.time()-o.stat().st_mtime > 86_400: shutil.rmtree(o, ignore_errors=True)
    return home


def _made(name, settings, make):
    "The folder that `make(folder)` writes, made by the first process that asks for it"
    key = hashlib.blake2s(json.dumps([name, settings], sort_keys=True, default=str).encode(), digest_size=6).hexdigest()
    folder = _home()/key
    with locked(f'{folder}.lock'):
        if not folder.exists():
            own = mock.patch.dict(os.environ, GZ_FASTAI_CACHE=str(folder.parent/'cache'))
            with own, contextlib.redirect_stdout(io.StringIO()), atomic_folder(folder) as tmp: make(tmp/name)
    return folder/name


def _config(n, settings, out):
    small = dict(data=str(tiny_galaxies(n)), arch='test_resnet', size=32, epochs=1, bs=16, hidden=(32,), precision='fp32', device='cpu')
    return Config(**small | settings, out=str(out))


def tiny_galaxies(n=80):
    "A folder in Kaggle's layout with `n` synthetic galaxies"
    return _made('galaxies', n, lambda folder: make_sample(n, folder=folder))


def tiny_run(n=80, **settings):
    "A run of one epoch on `n` galaxies"
    return Run(_made(f'run{settings.get("seed", 0)}', [n, settings], lambda folder: train(_config(n, settings, folder))))


def tiny_crossval(n=80, **settings):
    "A cross-validation of two folds"
    settings = dict(folds=2) | settings
    return CrossVal(_made('crossval', [n, settings], lambda folder: crossval(_config(n, settings, folder))))


def tiny_study(n=80, **settings):
    "A study of two trials"
    def make(folder): tune(_config(n, settings, folder), archs=['test_resnet'], trials=2, trial_epochs=1, seeds=1, space=['bs=[16]'])
    return Study(_made('study', [n, settings], make))


def copied(experiment, to):
    "A copy of a run, a cross-validation or a study, which may be changed"
    return type(experiment)(shutil.copytree(experiment.path, to))
