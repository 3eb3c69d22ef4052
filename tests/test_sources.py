"Lists of images that are wrong, images that cannot be read, and sources that change while they are read."
import contextlib
import os
import shutil
import zipfile
from unittest import mock

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gz_fastai.core import BadInput
from gz_fastai.data.images import BandFiles
from gz_fastai.data.sources import ImageBytes, ImageUrl, in_memory, list_images, open_images
from gz_fastai.data.store import read_stored

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
    assert [o[0] for o in list_images(tmp_path/'own.parquet', id_column='source_id')] == ['0', '1']


def test_rows_without_an_id_are_left_out(files, tmp_path):
    pq.write_table(pa.table(dict(id_str=['g0', None, 'g2'], image=[o.read_bytes() for o in files[:3]])), tmp_path/'gaps.parquet')
    assert [o.id for o in open_images(list_images(tmp_path/'gaps.parquet'))] == ['g0', 'g2']


@pytest.mark.parametrize('n', [6, 2])
def test_a_table_that_changed_after_it_was_listed(files, parquet, n):
    before, data = list(list_images(parquet)), [o.read_bytes() for o in files]
    pq.write_table(pa.table(dict(id_str=[f'h{i}' for i in range(n)], image=data[:n])), parquet)
    with pytest.raises(BadInput, match='changed'): list(open_images(before))


def test_links_that_lead_back_are_followed_once(files, tmp_path):
    os.symlink(tmp_path/'survey', tmp_path/'survey'/'tile'/'back')
    assert len(list(list_images(tmp_path/'survey'))) == 6


def test_urls_and_paths_in_one_list(files, memory, tmp_path):
    "The same image twice, and lines that end as on Windows"
    (tmp_path/'odd.txt').write_bytes(f'memory://survey/g1.png\n{files[2]}\r\n{files[2]}\n'.encode())
    assert [level(o) for o in open_images(list_images(tmp_path/'odd.txt'))] == [level(files[i]) for i in (1, 2, 2)]
    memory.pipe('/survey/all.txt', b'g2.png\n')
    assert list(list_images('memory://survey/all.txt')) == [('g2', 'memory://survey/g2.png', '')]


def test_an_outage_is_tried_again_and_is_no_fault_of_the_image(files, memory, tmp_path):
    broken = mock.Mock(side_effect=TimeoutError('no answer'))
    with mock.patch.object(type(memory), 'cat_file', broken), mock.patch('time.sleep'), pytest.raises(OSError, match='no answer'):
        ImageUrl('memory://survey/g1.png').fetched()
    assert broken.call_count == 4
    with mock.patch('os.stat', side_effect=OSError(5, 'Input/output error')), pytest.raises(OSError, match='Input/output'): in_memory(files[0])
    assert np.array_equal(read_stored(in_memory(files[1]), 30, 16), read_stored(files[1], 30, 16))
    with pytest.raises(BadInput, match='none.png'): in_memory(tmp_path/'none.png')


@pytest.mark.parametrize('image, parts', [
    (ImageUrl('memory://survey/none.png'), ['none.png']),
    (ImageBytes(None, '7', 'x.parquet row 7'), ['x.parquet row 7', 'no image']),
    (ImageBytes(b'', '7', 'x.parquet row 7'), ['row 7', '0 bytes'])], ids=['url', 'null', 'empty'])
def test_images_that_cannot_be_read(image, parts):
    with pytest.raises(BadInput) as e: read_stored(image, 30, 16)
    for o in parts: assert o in str(e.value)


def test_a_file_per_band(tmp_path):
    for b in 'gr': (tmp_path/f'7_{b}.fits').write_bytes(b'')
    pair, = open_images(list_images(tmp_path, ('g', 'r')))
    assert isinstance(pair, BandFiles) and pair.id == '7'
    assert [str(o) for o in pair.files.values()] == [f'{tmp_path}/7_{b}.fits' for b in 'gr']


def test_images_of_a_zip_are_those_of_the_folder(files, tmp_path):
    with zipfile.ZipFile(tmp_path/'all.zip', 'w') as z:
        for o in files: z.write(o, o.name)
    assert [level(o) for o in open_images(list_images(tmp_path/'all.zip'))] == [level(o) for o in files]
    shutil.rmtree(tmp_path/'survey')
    assert len(list(open_images(list_images(tmp_path/'all.zip')))) == 6
