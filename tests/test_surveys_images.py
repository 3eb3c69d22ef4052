"Images as surveys publish them: each is read rightly, or refused with its name and the reason"
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from gz_fastai.core import BadInput
from gz_fastai.data.fits import ImageSpec, fit_image_spec
from gz_fastai.data.images import as_image, find_images
from gz_fastai.data.store import Store

SURVEYS = os.environ.get('GZ_FASTAI_SURVEYS')
real = pytest.mark.skipif(not SURVEYS, reason='GZ_FASTAI_SURVEYS names no folder of real files')

FILES = { # what became of each: shape, channels, arcseconds of a pixel, or why it is refused
    'Cut_HSC_5band.fits': ((50, 50, 5), '12345', .168),
    'Cut_HST.fits': ((250, 250, 3), '1', .03),
    'decam_coadd_g.fits': ((512, 512, 3), '1', .263),
    'decam_ooi_r_N15.fits': ((100, 101, 3), '1', .262),
    'example_a.fits': ((509, 509, 3), 'zrg', .262),
    'example_b.fits': ((162, 162, 3), 'zrg', .262),
    'hsc_i_cutout.fits': ((25, 25, 3), '1', .168),
    'jwst_cutout.fits': ((400, 400, 3), '1', .05),
    'statmorph_slice.fits': ((162, 162, 3), '1', None),
    'synthetic_image_104798_band_5_camera_0_bg_1.fits': ((424, 424, 3), '1', None),
    'ksb_mask.fits.fz': 'only the values 0 and 1, as a mask does',
    'example_a.png': ((424, 424, 3), '', None),
    'example_b.png': ((424, 424, 3), '', None),
    'hst_ferengi_5249ce0c.jpg': ((424, 424, 3), '', None),
    'hst_goods_g10060_bviz.jpg': ((424, 424, 3), '', None),
    'sdss_merger_587729227151704160_tgt.png': ((1024, 1024, 3), '', None)}


def close(a, b): return a is b or abs(a-b) < .001


@real
def test_every_real_file_is_listed():
    images = {o.name for files in find_images(SURVEYS).values() for o in files}
    assert images == set(FILES)


@real
@pytest.mark.parametrize('name', FILES)
def test_real_file(name, tmp_path):
    file, expected = Path(SURVEYS)/name, FILES[name]
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected) as e: as_image(file).read(reading=fit_image_spec([file])[0])
        assert name in str(e.value)
        return
    shape, channels, arcsec = expected
    reading, _ = fit_image_spec([file])
    px, info = as_image(file).read(reading=reading)
    assert (px.shape, ''.join(reading.channels), px.dtype) == (shape, channels, np.uint8)
    assert close(as_image(file).read(reading=ImageSpec(fov=40.))[1]['arcsec'], arcsec)
    if '.fits' not in name: return
    assert info['filled'] == 0 and np.median(px) < 30 and px.max() > 100      # the sky is dark, and something shines
    fov = replace(reading, fov=4.)
    if arcsec: assert Store.open([file], size=32, folder=tmp_path, reading=fov).index['crop'][0] == pytest.approx(4/arcsec, rel=.02)
    else:
        with pytest.raises(BadInput, match=f'{name}: its header has no pixel scale, which fov needs; remove fov'):
            Store.open([file], size=32, folder=tmp_path, reading=fov)


@real
def test_colors_are_those_of_another_renderer():
    "Lupton's own recipe, as astropy has it, with the scales of the Legacy Surveys' pictures: g 6.0, r 3.4, z 2.2"
    from astropy.visualization import make_lupton_rgb
    files = [Path(SURVEYS)/f'example_{o}.fits' for o in 'ab']
    reading, notes = fit_image_spec(files)
    for f in files:
        g, r, z = fits.getdata(f)[:, ::-1].astype(float)
        ref = make_lupton_rgb(2.2*z, 3.4*r, 6*g, Q=8, stretch=.5)
        px = as_image(f).read(reading=reading)[0]
        corr = [np.corrcoef(px[..., c].ravel(), ref[..., c].ravel())[0, 1] for c in range(3)]
        print(f.name, 'correlation of R, G, B:', np.round(corr, 3))
        assert min(corr) > .94


@real
def test_brightness_and_colors_are_like_those_of_the_published_pictures():
    "The PNGs show other galaxies than the FITS files of their names: only the level of the sky and the mean color compare"
    files = [Path(SURVEYS)/f'example_{o}.fits' for o in 'ab']
    reading, _ = fit_image_spec(files)
    color, sky = {}, {}
    for f in (*files, *(o.with_suffix('.png') for o in files)):
        px = as_image(f).read(reading=reading)[0].reshape(-1, 3).astype(float)
        level = px.mean(1)
        color[f.name], sky[f.name] = px[level > 100].mean(0), px[level <= np.percentile(level, 40)].mean()
    print(color, sky)
    assert (np.diff(color['example_a.fits']) < 0).all() and (np.diff(color['example_a.png']) < 0).all()     # red ones: R > G > B
    np.testing.assert_allclose(color['example_a.fits']/color['example_a.fits'].mean(), color['example_a.png']/color['example_a.png'].mean(), atol=.05)
    for o in 'ab': assert sky[f'example_{o}.fits'] < sky[f'example_{o}.png']       # the sky is not blown up


@real
def test_nothing_is_slow():
    "A FITS image takes about as long as with a stretch of its own, which it had before"
    file = Path(SURVEYS)/'example_a.fits'
    reading, _ = fit_image_spec([file])
    def best(**kwargs):
        times = []
        for _ in range(9):
            start = time.process_time()
            as_image(file).read(**kwargs)
            times.append(time.process_time()-start)
        return min(times)
    assert best(reading=reading) < best()+.005


@real
def test_the_check_names_what_it_skips(command, tmp_path, galaxies):
    folder = tmp_path/'data'
    shutil.copytree(galaxies, folder)
    for o in ('ksb_mask.fits.fz', 'jwst_cutout.fits', 'panoptes.csv'): shutil.copy(Path(SURVEYS)/o, folder/'images_training_rev1')
    res = command('gz_fastai_data', 'check', folder, '--images', timeout=300)
    assert 'ksb_mask' in res.stdout and 'as a mask does' in res.stdout and '1 .csv' in res.stdout, res.stdout


def write(path, planes, **header): fits.PrimaryHDU(np.asarray(planes, 'float32'), fits.Header(header)).writeto(path)


@pytest.fixture
def survey(tmp_path):
    "Six galaxies in three bands"
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]-39.5
    for i in range(6):
        write(tmp_path/f'{i}.fits', np.stack([np.exp(-np.hypot(x, y)/6)*f for f in (.3, .8, 1.5)])+rng.normal(0, .01, (3, 80, 80)), BANDS='grz')
    return tmp_path


def test_a_truncated_file_and_one_without_a_band_are_named(survey):
    whole = (survey/'1.fits').read_bytes()
    (survey/'1.fits').write_bytes(whole[:len(whole)//2])
    (survey/'2.fits').unlink()
    write(survey/'2.fits', np.random.default_rng(0).normal(size=(2, 80, 80)), BANDS='gr')
    files = sorted(survey.glob('*.fits'))
    reading, _ = fit_image_spec(files)
    bad = Store.open(files, size=32, folder=survey/'stores', unreadable='skip', reading=reading).bad
    assert bad.file.tolist() == ['1.fits', '2.fits'] and 'has the bands g, r, not z' in bad.problem.iloc[1]
    with pytest.raises(BadInput, match='1.fits'): Store.open(files, size=32, folder=survey/'stores', reading=reading)


def test_wrong_names_of_bands(survey):
    files = sorted(survey.glob('*.fits'))
    with pytest.raises(BadInput, match='has the bands g, r, z, not y'): fit_image_spec(files, 'g,r,y')
    assert fit_image_spec(files, 'g,r')[0].channels == ('r', 'g')


def test_huge_headers_end_soon(survey):
    block = (survey/'1.fits').read_bytes()
    head, data = block[:2880], block[2880:]
    end = head.index(b'END'.ljust(80))
    cards = b''.join(f'COMMENT {i}'.encode().ljust(80) for i in range(200_000))
    text = head[:end]+cards+b'END'.ljust(80)
    (survey/'huge.fits').write_bytes(text.ljust(-(-len(text)//2880)*2880)+data)
    (survey/'endless.fits').write_bytes(head[:end]+cards)
    start = time.process_time()
    for name in ('huge.fits', 'endless.fits'):
        try: as_image(survey/name).read()
        except BadInput as e: assert name in str(e)
    assert time.process_time()-start < 30


def test_jpegs_among_fits_are_not_stretched(survey):
    gray = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype='uint8')
    Image.fromarray(gray).save(survey/'a.png')
    files = sorted([*survey.glob('*.fits'), survey/'a.png'])
    reading, notes = fit_image_spec(files)
    assert 'from 6 of 6 FITS images' in notes[-1]
    np.testing.assert_array_equal(as_image(survey/'a.png').read(reading=reading)[0], gray)
    assert len(Store.open(files, crop=60, size=32, folder=survey/'stores', reading=reading).bad) == 0
