"Training runs on FITS images: five bands, a field of view, and weights of a run that saw other bands."
import contextlib
import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from conftest import IMAGES
from fastai.callback.core import Callback
from PIL import Image
from tiny import tiny_galaxies

from gz_fastai.core import BadInput, read_json, write_json
from gz_fastai.data.fits import ImageSpec
from gz_fastai.model import start
from gz_fastai.model.runs import Run
from gz_fastai.training import train as training
from gz_fastai.training.config import Config
from gz_fastai.training.train import config_catalog, train

SCALE = dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CDELT1=-.4/3600, CDELT2=.4/3600)


class Interrupt(Callback):
    order = 56     # after the checkpoint
    def after_epoch(self): raise KeyboardInterrupt


@pytest.fixture(scope='module')
def sky(tmp_path_factory):
    "A folder of galaxies as FITS images of the bands grizy, with a pixel scale"
    folder = tmp_path_factory.mktemp('fits')/'sky'
    shutil.copytree(tiny_galaxies(60), folder)
    for f in sorted((folder/IMAGES).iterdir()):
        px = (np.asarray(Image.open(f).reduce(2))[::-1].astype('float32')/255)**2
        fits.PrimaryHDU(np.moveaxis(px[..., [2, 1, 0, 0, 0]], -1, 0), fits.Header(dict(BANDS='grizy') | SCALE)).writeto(f.with_suffix('.fits'))
        f.unlink()
    return folder


@pytest.fixture(scope='module')
def small(sky): return Config(data=str(sky), arch='test_resnet', size=32, epochs=2, bs=16, precision='fp32', device='cpu')


@pytest.fixture(scope='module', autouse=True)
def surroundings(tmp_path_factory):
    "A cache of its own, and predictions in float32"
    with pytest.MonkeyPatch.context() as m:
        m.setenv('GZ_FASTAI_CACHE', str(tmp_path_factory.mktemp('cache')))
        m.setenv('GZ_FASTAI_PRECISION', 'fp32')
        yield


def said_by(cfg, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()) as out: return train(cfg, **kwargs), out.getvalue()


@pytest.fixture(scope='module')
def deep(small, tmp_path_factory):
    "A run on five bands, interrupted and resumed; how images are read is chosen once"
    cfg = replace(small, fov=36., out=tmp_path_factory.mktemp('runs')/'fov')
    with pytest.raises(KeyboardInterrupt): train(cfg, cbs=[Interrupt()])
    with pytest.MonkeyPatch.context() as m:
        m.setattr(start, 'fit_image_spec', None)
        return Run(train(cfg).path)


def test_five_bands_and_a_field_of_view(deep, sky):
    how = ImageSpec.from_dict(deep.info['reading'])
    assert (how.channels, how.fov, deep.info['args'], len(deep.info['stats'][0])) == (tuple('yzirg'), 36., dict(in_chans=5), 5)
    assert ImageSpec.from_dict(deep.resolved['reading']) == how
    again = deep.predict([sky/IMAGES/f'{i}.fits' for i in deep.predictions.GalaxyID])
    np.testing.assert_allclose(again, deep.predictions[deep.schema.columns], atol=1e-5)


def test_weights_of_such_a_run(deep, small, tmp_path):
    "Its field of view comes with them, and its bands have to fit"
    _, said = said_by(replace(small, weights=str(deep.path), epochs=1, out=tmp_path/'deeper'))
    assert 'fov 36: the weights come from' in said
    with pytest.raises(BadInput, match='fit the network'): train(replace(small, weights=str(deep.path), bands='g,r,z', out=tmp_path/'fewer'))
    with pytest.raises(BadInput, match='fov and crop'): replace(small, fov=36., crop=90)


def test_planes_without_names(deep, sky, small, tmp_path):
    "They are named as the run's own bands say, or not at all; in another unit they have statistics of their own"
    bare = shutil.copytree(sky, tmp_path/'bare')
    for f in (bare/IMAGES).iterdir(): fits.writeto(f, 100*fits.getdata(f), overwrite=True)
    after = replace(small, data=str(bare), weights=str(deep.path))
    def image_spec(cfg): return start.Start(cfg.arch, weights=cfg.weights).image_spec(config_catalog(cfg).files, fov=36.)
    with pytest.raises(BadInput, match='bands y, z, i, r, g.*no names'): image_spec(after)
    how, named = ImageSpec.from_dict(deep.info['reading']), shutil.copytree(deep.path, tmp_path/'named')
    write_json(named/'model.json', read_json(named/'model.json') | dict(reading=how.to_dict() | dict(bands=list('grizy'))))
    after = replace(after, weights=str(named))
    reading, said = image_spec(after)
    assert (reading.bands, reading.channels) == (tuple('grizy'), how.channels)
    assert 'bands g,r,i,z,y' in said[0] and str(named) in said[0] and 'another stretch' in said[-1]
    def stats(cfg):
        plan = training.make_plan(cfg, tmp_path/'plan')
        return plan.learner(plan.open_store()).dls.stats
    assert not np.allclose(stats(replace(after, crop=40)), deep.info['stats'], rtol=.1)      # its headers have no scale for fov
    np.testing.assert_allclose(stats(replace(after, data=str(sky), weights=str(deep.path))), deep.info['stats'])
    after = replace(after, data=str(tiny_galaxies(60)))
    assert 'images of y, z, i, r, g instead' in image_spec(after)[1][-1]
