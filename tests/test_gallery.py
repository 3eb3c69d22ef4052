"What a gallery finds, sorts and shows, and what it refuses."
import numpy as np
import pandas as pd
import pytest
from conftest import IMAGES, LABELS
from tiny import tiny_galaxies, tiny_run

from gz_fastai.core import BadInput
from gz_fastai.data.labels import to_labels
from gz_fastai.explore.gallery import Gallery, Query
from gz_fastai.explore.marks import Marks
from gz_fastai.explore.opening import open_gallery

N = 60


@pytest.fixture(scope='module')
def gallery(tmp_path_factory):
    "Two runs, the images they were trained on, and labels; predicted in float32"
    folder, galaxies = tmp_path_factory.mktemp('gallery'), tiny_galaxies(N)
    with pytest.MonkeyPatch.context() as m:
        m.setenv('GZ_FASTAI_CACHE', str(folder/'cache'))
        m.setenv('GZ_FASTAI_PRECISION', 'fp32')
        yield open_gallery([tiny_run(N, seed=s).path for s in (0, 1)], galaxies/IMAGES, labels=galaxies/LABELS, marks=folder/'marks.csv')


@pytest.fixture
def one(gallery): return gallery.ids[7]


def test_a_query_filters_and_sorts(gallery):
    rows = gallery.select(Query((('all:Class1.1', .2, 1),), sort='improbability'))
    assert len(gallery) == N and len(rows) == int((gallery.values('all:Class1.1') >= .2).sum())
    assert (np.diff(gallery.values('improbability')[rows]) <= 0).all()


def test_quantities(gallery):
    "By independent arithmetic where there is one, and a number for each galaxy in all of them"
    np.testing.assert_allclose(gallery.values('error'), np.sqrt(((gallery.mean-gallery.observed)**2).mean(1)), atol=1e-6)
    np.testing.assert_allclose(gallery.values('runs'), np.sqrt(((gallery.preds[0]-gallery.preds[1])**2/4).mean(1)), atol=1e-6)
    asked, some = gallery.values('asked:Class2.1'), gallery.mean[:, 1] >= .5
    assert np.array_equal(np.isnan(asked), ~some)
    np.testing.assert_allclose(asked[some], (gallery.mean[:, 3]/gallery.mean[:, 1])[some], atol=1e-4)
    assert gallery.words('asked:Class2.1') == 'edge-on (predicted, those asked)'
    for name in [n for o in gallery.quantities.values() for n in o]: assert gallery.values(name).shape == (N,)


@pytest.mark.parametrize('name', ['nothing', 'all:Class99.1', 'column:x', 'like:nobody', 'taught:wanted=yes', 'like:'])
def test_quantities_that_do_not_exist(gallery, name):
    with pytest.raises(BadInput): gallery.values(name)


def test_questions_without_votes_are_not_answered_with_0(gallery, tmp_path):
    half = N//2
    some = to_labels(pd.DataFrame(dict(id=gallery.ids, a_yes=3, a_no=1, b_yes=[0]*half+[4]*half, b_no=0)), form='counts')
    marks = Marks(tmp_path/'marks.csv', some.schema)
    partly = Gallery(some.schema, gallery.ids, np.full((1, N, 4), .5), {}, [tiny_run(N, seed=0)], marks, labels=some)
    assert np.isnan(partly.observed).sum(0).tolist() == [0, 0, half, half]
    np.testing.assert_allclose(partly.values('error')[:half], .25, atol=1e-6)


def test_a_galaxy_is_found_by_a_part_of_its_id(gallery, one):
    rows = gallery.select(Query(find=one[-4:].upper()))
    assert rows.tolist() == [r for r in range(N) if one[-4:] in gallery.ids[r]] and 7 in rows


def test_like_a_galaxy_and_like_a_dropped_image(gallery, one):
    "What is dropped in is like the same file, and has a plain name"
    near = gallery.select(Query(sort=f'like:{one}'))
    assert len(near) == N-1 and 7 not in near
    name = gallery.drop((tiny_galaxies(N)/IMAGES/f'{one}.jpg').read_bytes(), f'../{one}.jpg')
    assert '/' not in name and gallery.select(Query(sort=f'like:{name}'))[0] == 7
    np.testing.assert_allclose(gallery.dropped[name].preds, gallery.preds[:, 7], atol=1e-3)
    assert np.array_equal(gallery[name].pixels(whole=True), gallery[one].pixels(whole=True))
    with pytest.raises(BadInput, match='image'): gallery.drop(b'no image', 'x.jpg')


def test_views_and_pixels(gallery, one):
    assert gallery[one].pixels(whole=True).shape == (424, 424, 3) and gallery[one].views().shape == (16, 37)
    np.testing.assert_allclose(gallery[one].views()[0], gallery.preds[0, 7], atol=1e-3)
