"gz_fastai_data as it is installed, and every kind of bad image and table."
import http.server
import json
import os
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image
from conftest import IMAGES, LABELS, zipped

from gz_fastai.data.audit import audit_folder
from gz_fastai.data.catalog import Catalog
from gz_fastai.data.fetch import COMPETITION_FILES
from gz_fastai.data.fits import read_image


def test_help_fits_the_screen(command):
    for args in ([], ['check'], ['convert'], ['fetch'], ['sample'], ['cache']):
        res = command('gz_fastai_data', *args, '--help')
        lines = res.stdout.splitlines()
        assert res.returncode == 0 and not res.stderr and len(lines) <= 40 and max(map(len, lines)) <= 80


def as_fits(f, px):
    f.unlink()
    fits.PrimaryHDU(px).writeto(f.with_suffix('.fits'))


def with_nan(f):
    px = np.moveaxis(np.asarray(Image.open(f)), -1, 0).astype('float32')
    px[:, 106:] = np.nan
    as_fits(f, px)


def huge(f):
    "A small file whose header promises much"
    f.unlink()
    file = f.with_suffix('.fits.fz')
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((8, 8), 'int16'))]).writeto(file)
    data = file.read_bytes()
    for i in (1, 2): data = data.replace(f'ZNAXIS{i} =                    8'.encode(), f'ZNAXIS{i} =               800000'.encode())
    file.write_bytes(data)


DAMAGE = {   # kind: (damage to an image, what is said of it)
    'truncated': (lambda f: f.write_bytes(f.read_bytes()[:3000]), 'truncated'),
    'zero bytes': (lambda f: f.write_bytes(b''), 'has 0 bytes'),
    'text': (lambda f: f.write_text('not a picture'), 'is not a JPEG, PNG, TIFF or FITS file'),
    'FITS with NaN': (with_nan, '75% of its pixels have no value'),
    'FITS of 8e5 x 8e5 pixels': (lambda f: huge(f), 'pixels'),
    'sparse file of 8 GB': (lambda f: os.truncate(f, 2**33), '8.6 GB'),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_bad_image_is_named(command, damaged, tmp_path, kind):
    damage, words = DAMAGE[kind]
    damage(damaged/IMAGES/'1000007.jpg')
    name, = (o.name for o in (damaged/IMAGES).glob('1000007.*'))
    res = command('gz_fastai_data', 'check', damaged, '--images', '--json')
    found, = json.loads(res.stdout)['findings']
    assert res.returncode == 1 and (found['kind'], found['id']) == ('unreadable image', '1000007')
    assert name in found['file'] and words in found['message']
    cache = tmp_path/'own cache'
    res = command('gz_fastai_train', '--data', damaged, '--out', 'run', GZ_FASTAI_CACHE=str(cache))
    line, = [o for o in res.stderr.splitlines() if o.startswith('gz_fastai_train: ')]
    assert res.returncode == 2 and name in line and words in line and 'Traceback' not in res.stderr
    assert not (tmp_path/'run').exists()
    assert [o for o in cache.rglob('*') if o.is_file() and o.suffix != '.lock'] == []   # nothing half-written


UNUSUAL = {   # kind: (how its gray levels are written, what the check says of the file)
    '16-bit PNG': (lambda px, f: Image.fromarray(px.astype('uint16')*257).save(f.with_suffix('.png')), 'mode I;16; most have mode RGB'),
    'grayscale': (lambda px, f: Image.fromarray(px).save(f.with_suffix('.png')), 'mode L; most have mode RGB'),
    'FITS': (lambda px, f: fits.PrimaryHDU(px[::-1]).writeto(f.with_suffix('.fits')), 'mode FITS with 1 plane; most have mode RGB'),
}


@pytest.mark.parametrize('kind', UNUSUAL)
def test_an_unusual_image_is_used_and_named(command, damaged, kind):
    write, words = UNUSUAL[kind]
    f = damaged/IMAGES/'1000007.jpg'
    gray = np.asarray(Image.open(f).convert('L'))
    f.unlink()
    write(gray, f)
    res = command('gz_fastai_data', 'check', damaged, '--images')
    assert res.returncode == 1 and '1000007.' in res.stdout and words in res.stdout
    px = np.asarray(read_image(Catalog(damaged).files[6])[0])
    assert (px == gray[..., None]).all()


def table(text_of): return lambda f: f.write_bytes(text_of(f.read_text()).encode())


@pytest.mark.parametrize('change', [
    pytest.param(table(lambda t: '\ufeff'+t), id='byte-order mark'),
    pytest.param(table(lambda t: t.replace('\n', '\r\n')), id='CRLF'),
    pytest.param(table(lambda t: t.replace('GalaxyID', 'GalaxyId')), id='GalaxyId')])
def test_tables_of_other_programs(command, galaxies, damaged, change):
    change(damaged/LABELS)
    assert command('gz_fastai_data', 'check', damaged).returncode == 0
    assert (Catalog(damaged).labels == Catalog(galaxies).labels).all() and (Catalog(damaged).ids == Catalog(galaxies).ids).all()


@pytest.mark.parametrize('change, kind, words', [
    (lambda t: t.drop(columns='Class9.2'), 'labels', 'no column Class9.2'),
    (lambda t: pd.concat([t, t.iloc[[2]]]), 'duplicate id', 'earlier row'),
    (lambda t: pd.concat([t, t['Class6.1']], axis=1), 'labels', 'several columns Class6.1'),
    (lambda t: pd.concat([t, t['GalaxyID']], axis=1), 'labels', 'GalaxyID and GalaxyID'),
    (lambda t: t.head(0), 'labels', 'has no rows'),
    (lambda t: t.assign(**{'Class6.1': t['Class6.1'].astype(object).where(t.index != 4, 'many')}), 'nan', 'not a number'),
])
def test_a_bad_table_is_named(command, damaged, change, kind, words):
    change(pd.read_csv(damaged/LABELS)).to_csv(damaged/LABELS, index=False)
    res = command('gz_fastai_data', 'check', damaged)
    assert res.returncode == 1 and f'{kind}: 1' in res.stdout and LABELS in res.stdout and words in res.stdout
    res = command('gz_fastai_data', 'check', damaged/'none')
    assert res.returncode == 2 and 'no such folder' in res.stderr


def test_what_the_check_accepts_can_be_trained_on(command, tmp_path):
    "Other names, named in a TOML file; a sample of two galaxies has none to validate on"
    command('gz_fastai_data', 'sample', 'few', '--n', 2)
    assert command('gz_fastai_data', 'check', 'few').returncode == 1
    assert command('gz_fastai_train', '--data', 'few', '--out', 'run').returncode == 2
    command('gz_fastai_data', 'sample', 'own', '--n', 40)
    own = tmp_path/'own'
    (own/LABELS).rename(own/'a.csv')
    shutil.copy(own/'a.csv', own/'b.csv')
    (own/IMAGES).rename(own/'my pictures')
    assert 'name one with labels' in command('gz_fastai_data', 'check', 'own').stdout
    (tmp_path/'own.toml').write_text('labels = "b.csv"\nepochs = 1\nsize = 32\narch = "resnet18"\n')
    assert command('gz_fastai_data', 'check', 'own', '--config', 'own.toml', '--images').returncode == 0
    res = command('gz_fastai_train', '--data', 'own', '--config', 'own.toml', '--out', 'run')
    assert res.returncode == 0, res.stderr


def test_a_sample_and_its_check(command, tmp_path):
    res = command('gz_fastai_data', 'sample', 'made', '--n', 20, '--seed', 3)
    assert res.returncode == 0 and 'gz_fastai_train --data made' in res.stdout
    assert len(list((tmp_path/'made'/IMAGES).iterdir())) == 20
    res = command('gz_fastai_data', 'check', 'made', '--images')
    assert res.returncode == 0 and res.stdout.splitlines()[-1] == 'no problems found'
    res = command('gz_fastai_data', 'sample', 'made', '--n', 21)
    assert res.returncode == 2 and 'holds no sample of 21 galaxies' in res.stderr


def test_zips_as_they_are_downloaded(command, galaxies, tmp_path):
    folder = zipped(galaxies, tmp_path/'kaggle')
    assert command('gz_fastai_data', 'check', folder, '--images').returncode == 0
    res = command('gz_fastai_train', '--data', folder, '--arch', 'resnet18', '--size', 32, '--epochs', 1, '--out', 'run')
    assert res.returncode == 0, res.stderr
    assert sorted(o.name for o in folder.iterdir()) == sorted(COMPETITION_FILES)      # nothing was unpacked into it


@pytest.fixture
def arranged(galaxies, tmp_path):
    "The galaxies with their images arranged by a function of the folder of images"
    def arrange(how):
        folder = Path(shutil.copytree(galaxies, tmp_path/'arranged'))
        how(folder/IMAGES)
        return folder
    return arrange


def deeper(images):
    (images/'x').mkdir()
    for f in images.glob('*.jpg'): f.rename(images/'x'/f.name)


def by_prefix(images):
    for f in sorted(images.iterdir()):
        (images.parent/'cutouts'/f.stem[-1]).mkdir(parents=True, exist_ok=True)
        f.rename(images.parent/'cutouts'/f.stem[-1]/f.name)
    images.rmdir()


def compressed_fits(images):
    for i, f in enumerate(sorted(images.iterdir())):
        px = np.asarray(Image.open(f).convert('L').reduce(2)).astype('float32')
        f.unlink()
        if i%2: fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(px)]).writeto(images/f'{f.stem}.fits.fz')
        else: fits.writeto(images/f'{f.stem}.fits.gz', px)


def all_in_one(images):
    folder = images.parent
    kaggle = zipped(folder, folder/'zips')
    with zipfile.ZipFile(folder/'galaxy-zoo-the-galaxy-challenge.zip', 'w') as z:
        for f in kaggle.iterdir(): z.write(f, f.name)
    for o in folder.iterdir():
        if o.is_dir(): shutil.rmtree(o)
        elif o.suffix != '.zip': o.unlink()


@pytest.mark.parametrize('how', [deeper, by_prefix, compressed_fits, all_in_one])
def test_images_are_found(command, galaxies, arranged, how):
    folder = arranged(how)
    res = command('gz_fastai_data', 'check', folder, '--images')
    assert res.returncode == 0, res.stdout
    res = command('gz_fastai_train', '--data', folder, '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--out', 'run')
    assert res.returncode == 0, res.stderr
    for images, n in ((folder, 80), (galaxies/IMAGES/'1000001.jpg', 1)):
        if how is all_in_one and n == 80: continue        # both of its zips have all galaxies
        res = command('gz_fastai_predict', 'run', '--images', images, '--out', f'{n}.csv')
        assert res.returncode == 0 and len(pd.read_csv(f'{n}.csv')) == n, res.stderr


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='there are no pipes')
def test_pipes_are_passed_over(command, damaged):
    f = damaged/IMAGES/'1000007.jpg'
    f.unlink()
    os.mkfifo(f)
    for i in range(3): (damaged/IMAGES/f'{i}.webp').write_bytes(b'')
    res = command('gz_fastai_data', 'check', damaged, '--json')
    found = json.loads(res.stdout)
    assert res.returncode == 1 and [(o['kind'], o['id']) for o in found['findings']] == [('missing image', '1000007')]
    assert '3 .webp: 0.webp, 1.webp, 2.webp; 1 not a regular file: 1000007.jpg' in found['notes'][0]
    res = command('gz_fastai_train', '--data', damaged, '--out', 'run')
    assert res.returncode == 2 and '1 not a regular file' in res.stderr and res.stderr.count('gz_fastai_train: ') == 1
    for pipe in ('a.csv', 'a.zip'): os.mkfifo(damaged/pipe)
    assert command('gz_fastai_train', '--data', damaged, '--valid', damaged/'a.csv', '--out', 'run').returncode == 2
    assert command('gz_fastai_predict', 'run', '--images', damaged/'a.zip', '--out', 'p.csv').returncode == 2


@pytest.mark.parametrize('crop, shown', [(69, ''), (180, 'scaled up'), (9, '13%')])
def test_a_crop_that_does_not_fit(command, damaged, crop, shown):
    for f in (damaged/IMAGES).iterdir(): Image.open(f).resize((69, 69)).save(f)
    res = audit_folder(damaged, crop=crop)
    assert res['ok'] and [shown in o for o in res['notes']] == [True]*bool(shown)


@pytest.mark.parametrize('args', [['--n', 10**14], ['--n', 0], ['--seed', 10**23], ['--seed', -1]])
def test_a_sample_that_cannot_be(command, tmp_path, args):
    res = command('gz_fastai_data', 'sample', 'made', *args)
    assert res.returncode == 2 and res.stderr.count('\n') == 1 and list(tmp_path.iterdir()) == []


@pytest.fixture
def kaggle(galaxies, tmp_path):
    "An endpoint that answers as Kaggle does, where kagglehub looks for a test server; the folder of its files, and the requests"
    files, asked = zipped(galaxies, tmp_path/'server'), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_POST(self):
            wanted = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            asked.append((self.path, wanted, self.headers.get('Authorization')))
            if not self.headers.get('Authorization') or not (files/wanted['fileName']).exists(): return self.send_error(403, 'Forbidden')
            self.send_response(302)
            self.send_header('Location', f'/files/{wanted["fileName"]}')
            self.send_header('Content-Length', '0')
            self.end_headers()
        def do_GET(self):
            data = (files/self.path.split('/')[-1]).read_bytes()
            self.send_response(200)
            self.send_header('Content-Length', str(len(data)))
            self.send_header('Last-Modified', 'Thu, 01 Jan 2015 00:00:00 GMT')
            self.end_headers()
            self.wfile.write(data)

    try: server = http.server.ThreadingHTTPServer(('localhost', 7777), Handler)
    except OSError as e: pytest.skip(f'port 7777 is taken: {e}')
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield files, asked
    server.shutdown()
    server.server_close()


def test_fetch(command, kaggle, tmp_path):
    pytest.importorskip('kagglehub')
    files, asked = kaggle
    env = dict(KAGGLE_API_ENVIRONMENT='TEST', KAGGLE_USERNAME='', KAGGLE_KEY='', HOME=str(tmp_path),
               KAGGLE_CONFIG_DIR=str(tmp_path/'.kaggle'), KAGGLEHUB_CACHE=str(tmp_path/'hub'))
    res = command('gz_fastai_data', 'fetch', 'galaxy-zoo', **env)
    assert res.returncode == 2 and res.stderr.count('gz_fastai_data:') == 1 and 'Traceback' not in res.stderr
    for w in ('accept the rules on https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge/rules', 'create a token',
              'or download training_solutions_rev1.zip'): assert w in res.stderr
    env |= dict(KAGGLE_USERNAME='someone', KAGGLE_KEY='key')
    shutil.move(files/COMPETITION_FILES[1], tmp_path/'kept back')
    res = command('gz_fastai_data', 'fetch', 'galaxy-zoo', **env)
    assert res.returncode == 2 and COMPETITION_FILES[1] in res.stderr
    assert [o.name for o in (tmp_path/'galaxy-zoo').iterdir()] == [COMPETITION_FILES[0]]
    shutil.move(tmp_path/'kept back', files/COMPETITION_FILES[1])
    asked.clear()
    res = command('gz_fastai_data', 'fetch', 'galaxy-zoo', **env)
    assert res.returncode == 0, res.stderr
    assert [w['fileName'] for _, w, _ in asked] == list(COMPETITION_FILES[1:])      # what was there is not asked for again
    for name in COMPETITION_FILES: assert (tmp_path/'galaxy-zoo'/name).read_bytes() == (files/name).read_bytes()
    assert command('gz_fastai_data', 'check', 'galaxy-zoo').returncode == 0
