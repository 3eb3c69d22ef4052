"Lists of images that are wrong, images that cannot be read, sources that change while they are read, and URLs."
import contextlib
import os
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gz_fastai.core import BadInput
from gz_fastai.data.fits import fits_among
from gz_fastai.data.images import Changed, GalaxyImage, as_image, find_images, list_images
from gz_fastai.data.store import Store, read_stored

pytestmark = pytest.mark.quick


@pytest.fixture
def files(tmp_path):
    "Six images in a folder and in one below it"
    (tmp_path/'survey'/'tile').mkdir(parents=True)
    for i in range(6): Image.new('RGB', (40, 40), (40*i, 99, 0)).save(tmp_path/'survey'/('tile' if i > 3 else '.')/f'g{i}.png')
    return sorted((tmp_path/'survey').rglob('g*.png'))


@pytest.fixture
def parquet(files, tmp_path):
    "A table that holds the images"
    rows = dict(id_str=[f'g{i}' for i in range(6)], image=[dict(bytes=o.read_bytes(), path='') for o in files])
    pq.write_table(pa.table(rows), tmp_path/'all.parquet', row_group_size=4)
    return tmp_path/'all.parquet'


@pytest.fixture
def memory(files):
    "A file system that URLs reach"
    fs = fsspec.filesystem('memory')
    for o in files: fs.pipe(f'/survey/{o.name}', o.read_bytes())
    yield fs
    fs.rm('/survey', recursive=True)


def level(image): return read_stored(image, 30, 16)[0, 0, 0]      # of red, by which the images differ


@pytest.mark.parametrize('name, content, parts', [
    ('a.csv', 'objid,path\n1,a.png\n', ['no column file_loc']),
    ('a.csv', 'objid,file_loc\n1,a.png\n,b.png\n', ['a.csv line 3', 'ID']),
    ('a.txt', 'survey/g0.png\nnotes.md\n', ['a.txt line 2', 'notes.md']),
    ('a.txt', b'a.png\n\xff.png\n', ['a.txt']),
    ('a.parquet', b'PAR1', ['a.parquet', 'parquet']),
    ('a.parquet', pa.table(dict(image=[b''])), ['IDs']),
    ('a.parquet', pa.table(dict(a=[1])), ['no column file_loc']),
    ('a.parquet', pa.table(dict(objid=[5.877e17], file_loc=['survey/g0.png'])), ['floating-point'])])
def test_wrong_lists(tmp_path, name, content, parts):
    file = tmp_path/name
    if isinstance(content, pa.Table): pq.write_table(content, file)
    else: file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as e: list(list_images(file))
    for o in parts: assert o in str(e.value)


@pytest.mark.parametrize('source, part', [('none', 'none'), ('none.txt', 'none.txt'), ('nosuch://x', 'nosuch'), ('simplecache::memory://survey', 'chained')])
def test_wrong_sources(tmp_path, source, part):
    with pytest.raises(BadInput, match=part): list(list_images(source if '://' in source else tmp_path/source))
    assert list(list_images('memory://none')) == []


def test_places_are_absolute(files, parquet, tmp_path):
    "Also where the source is relative to the current folder"
    (tmp_path/'all.txt').write_text('\n'.join(f'survey/{o.relative_to(tmp_path/"survey")}' for o in files))
    for name in ('all.txt', 'all.parquet', 'survey'):
        with contextlib.chdir(tmp_path): assert list(list_images(name)) == list(list_images(tmp_path/name))


def test_ids_of_the_run_s_own_column(files, tmp_path):
    "0 among them"
    pq.write_table(pa.table(dict(source_id=[0, 1], file_loc=['survey/g0.png', 'survey/g1.png'])), tmp_path/'own.parquet')
    assert [o.id for o in list_images(tmp_path/'own.parquet', id_column='source_id')] == ['0', '1']


def test_rows_without_an_id_are_left_out(files, tmp_path):
    pq.write_table(pa.table(dict(id_str=['g0', None, 'g2'], image=[o.read_bytes() for o in files[:3]])), tmp_path/'gaps.parquet')
    assert [o.id for o in list_images(tmp_path/'gaps.parquet')] == ['g0', 'g2']


@pytest.mark.parametrize('n', [6, 2])
def test_a_table_that_changed_after_it_was_listed(files, parquet, n):
    before, data = list(list_images(parquet)), [o.read_bytes() for o in files]
    before[0].read_bytes()
    pq.write_table(pa.table(dict(id_str=[f'h{i}' for i in range(n)], image=data[:n])), parquet)
    for o in before:
        with pytest.raises(Changed, match='all.parquet: has changed'): o.read_bytes()


def test_a_zip_that_changed_after_it_was_listed(files, tmp_path):
    for name in ('g0.png', 'g1.png'):
        with zipfile.ZipFile(tmp_path/'all.zip', 'w') as z: z.write(files[0], name)
        if name == 'g0.png': image, = list_images(tmp_path/'all.zip')
        else: os.utime(tmp_path/'all.zip', (1, 1))
    with pytest.raises(Changed, match='all.zip: has changed'): image.read_bytes()


def test_links_that_lead_back_are_followed_once(files, tmp_path):
    os.symlink(tmp_path/'survey', tmp_path/'survey'/'tile'/'back')
    assert len(list(list_images(tmp_path/'survey'))) == 6


def test_urls_and_paths_in_one_list(files, memory, tmp_path):
    "The same image twice, and lines that end as on Windows"
    (tmp_path/'odd.txt').write_bytes(f'memory://survey/g1.png\n{files[2]}\r\n{files[2]}\n'.encode())
    assert [level(o) for o in list_images(tmp_path/'odd.txt')] == [level(files[i]) for i in (1, 2, 2)]
    memory.pipe('/survey/all.txt', b'g2.png\n')
    assert list(list_images('memory://survey/all.txt')) == [GalaxyImage('g2', 'memory://survey/g2.png')]


def test_an_outage_is_tried_again_and_is_no_fault_of_the_image(files, memory, tmp_path):
    broken = mock.Mock(side_effect=TimeoutError('no answer'))
    with mock.patch.object(type(memory), 'cat_file', broken), mock.patch('time.sleep'), pytest.raises(OSError, match='no answer'):
        as_image('memory://survey/g1.png').load()
    assert broken.call_count == 4
    with mock.patch('os.stat', side_effect=OSError(5, 'Input/output error')), pytest.raises(OSError, match='Input/output'): as_image(files[0]).load()
    assert np.array_equal(read_stored(as_image(files[1]).load(), 30, 16), read_stored(files[1], 30, 16))
    with pytest.raises(BadInput, match='none.png'): as_image(tmp_path/'none.png').load()


@pytest.mark.parametrize('image, parts', [
    ('memory://survey/none.png', ['none.png']),
    (0, ['x.parquet row 0', 'no image']),
    (1, ['x.parquet row 1', '0 bytes'])], ids=['url', 'null', 'empty'])
def test_images_that_cannot_be_read(image, parts, tmp_path):
    pq.write_table(pa.table(dict(id=['7', '8'], image=[None, b''])), tmp_path/'x.parquet')
    image = list(list_images(tmp_path/'x.parquet'))[image] if isinstance(image, int) else image
    with pytest.raises(BadInput) as e: read_stored(image, 30, 16)
    for o in parts: assert o in str(e.value)


def test_a_file_per_band(tmp_path):
    for b in 'gr': (tmp_path/f'7_{b}.fits').write_bytes(b'')
    pair, = list_images(tmp_path, ('g', 'r'))
    assert pair.id == '7'
    assert [str(o) for o in pair.bands.values()] == [f'{tmp_path}/7_{b}.fits' for b in 'gr']


def test_images_of_a_zip_are_those_of_the_folder(files, tmp_path):
    with zipfile.ZipFile(tmp_path/'all.zip', 'w') as z:
        for o in files: z.write(o, o.name)
    assert [level(o) for o in list_images(tmp_path/'all.zip')] == [level(o) for o in files]
    shutil.rmtree(tmp_path/'survey')
    assert [o.read_bytes()[:4] for o in list_images(tmp_path/'all.zip')] == [b'\x89PNG']*6


@pytest.fixture
def server(files):
    "The address of a service that makes cutouts, which says what it is asked for"
    class Cutouts(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = urlsplit(self.path)
            requests.append(self.path)
            ra = parse_qs(asked.query).get('ra', ['none'])[0]
            if asked.path == '/busy' and len(requests) < 3: return self.send_error(503)
            if asked.path == '/cutout' and not ra.isdecimal(): return self.send_error(400)
            if asked.path not in ('/cutout', '/busy'): return self.send_error(404)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(files[int(ra)].read_bytes())
        def log_message(self, *args): pass
    requests = []
    with ThreadingHTTPServer(('127.0.0.1', 0), Cutouts) as s:
        s.requests = requests
        thread = threading.Thread(target=s.serve_forever)
        thread.start()
        s.url = f'http://127.0.0.1:{s.server_port}'
        yield s
        s.shutdown()
        thread.join()


@pytest.mark.parametrize('kind', ['csv', 'parquet'])
def test_any_url_is_taken_where_the_table_has_an_id(files, server, tmp_path, kind):
    "What it holds is decided by its first bytes"
    table = pa.table(dict(objid=['3', '5'], file_loc=[f'{server.url}/cutout?ra={i}&dec=-1.5' for i in (3, 5)]))
    if kind == 'parquet': pq.write_table(table, tmp_path/'sky.parquet')
    else: table.to_pandas().to_csv(tmp_path/'sky.csv', index=False)
    images = list(list_images(tmp_path/f'sky.{kind}'))
    assert [o.id for o in images] == ['3', '5'] and server.requests == []      # nothing is fetched to list them
    assert [level(o) for o in images] == [level(files[i]) for i in (3, 5)]
    found = find_images(tmp_path/f'sky.{kind}')
    store = Store.open([found[i][0] for i in ('5', '3')], crop=30, size=16, folder=tmp_path/'stores')
    assert [px[0, 0, 0] for px in store.pixels] == [level(files[i]) for i in (5, 3)]
    n = len(server.requests)
    assert fits_among(images) == [] and len(server.requests) == n+1             # one of a service is looked at


def test_urls_without_an_id_need_the_name_of_an_image(server, tmp_path):
    (tmp_path/'sky.txt').write_text(f'{server.url}/7.jpg?size=3\n{server.url}/cutout?ra=3\n')
    images = list_images(tmp_path/'sky.txt')
    assert next(images).id == '7'
    with pytest.raises(BadInput, match='sky.txt line 2: .*ID'): next(images)


def test_a_server_that_is_busy_is_asked_again(files, server):
    with mock.patch('time.sleep') as sleep: assert level(f'{server.url}/busy?ra=2') == level(files[2])
    assert len(server.requests) == 3 and sleep.call_count == 2
    for path, part in (('cutout?ra=x', '400'), ('none.jpg', '404')):      # the fault of the image: not asked again
        with pytest.raises(BadInput, match=part): as_image(f'{server.url}/{path}').load()
    assert len(server.requests) == 5
    with mock.patch('time.sleep'), pytest.raises(OSError, match='cannot be read'): as_image('http://127.0.0.1:9/7.jpg').load()
