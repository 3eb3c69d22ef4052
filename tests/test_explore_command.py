"The explorer in a browser, as a person uses it: find, sort, open, more like this, drop an image in, mark, teach, export; on a phone, and with hostile names."
import contextlib
import os
import re
import shutil
import subprocess
import time

import pandas as pd
import pytest
from conftest import BIN, IMAGES, LABELS, SLOW
from tiny import tiny_run

from gz_fastai.data.labels import read_labels

NAMES = '<img src=x onerror=alert(1)>', '"><script>alert(2)', "it's {{7*7}} & more #?%20"


@pytest.fixture(scope='module')
def run(): return tiny_run().path


@contextlib.contextmanager
def explorer(folder, cache, *args):
    "A server; its address"
    log = folder/'server.txt'
    with log.open('w') as f:
        p = subprocess.Popen([BIN/'gz_fastai_explore', *map(str, args), '--port', '0'], cwd=folder, stdout=f, stderr=f, env=os.environ | dict(GZ_FASTAI_CACHE=str(cache)))
    try:
        end = time.time()+300
        while not (found := re.search(r'http://[\d.:]+', log.read_text())) and p.poll() is None and time.time() < end: time.sleep(.1)
        assert found, log.read_text()
        yield found[0]
        assert p.poll() is None, log.read_text()
    finally:
        p.terminate()
        p.wait(30)
    assert 'Traceback' not in log.read_text(), log.read_text()


@contextlib.contextmanager
def window(browser, url, width=1280, **kwargs):
    "A page whose console stays silent"
    said = []
    page = browser.new_page(viewport=dict(width=width, height=800), accept_downloads=True, **kwargs)
    page.set_default_timeout(SLOW)
    page.on('console', lambda o: said.append(o.text) if o.type in ('error', 'warning') else None)
    page.on('pageerror', lambda e: said.append(str(e)))
    page.on('dialog', lambda o: (said.append(o.message), o.dismiss()))
    page.goto(url)
    yield page
    page.wait_for_load_state('networkidle')
    page.close()
    assert not said, said


def shown(page): return page.locator('.wall .galaxy:not(.small *) .id').all_inner_texts()


def looked(page):
    "Scroll to what the network looks at"
    page.locator('section[data-load]').scroll_into_view_if_needed()
    page.wait_for_selector('section[data-load] img')


def pressed(page, n):
    "Wait for so many marks"
    from playwright.sync_api import expect
    expect(page.locator('.mark button[aria-pressed=true]')).to_have_count(n, timeout=SLOW)


@pytest.fixture
def wall(run, galaxies, cache, tmp_path):
    with explorer(tmp_path, cache, run, '--images', galaxies/IMAGES, '--labels', galaxies/LABELS) as url: yield url


def test_find_see_mark_teach_export(browser, wall, galaxies, tmp_path):
    with window(browser, wall) as page:
        assert len(shown(page)) == 48 and 'of 80' in page.inner_text('main')
        # filter, sort, and the link says it all
        page.select_option('[name=quantity]', 'volunteers:Class1.2')
        page.fill('[name=least]', '.5')
        page.select_option('[name=sort]', 'volunteers:Class1.2')
        with page.expect_navigation(): page.click('button.go')
        table = pd.read_csv(galaxies/LABELS, dtype={'GalaxyID': str})
        disks = table[table['Class1.2'] >= .5].sort_values('Class1.2', ascending=False)
        found = shown(page)
        assert len(found) == min(48, len(disks)) and set(found) <= set(disks.GalaxyID)
        values = disks.set_index('GalaxyID')['Class1.2']
        assert (values[found].diff().dropna() <= 1e-6).all()
        link = page.url
        page.goto(link)
        assert shown(page) == found
        with page.expect_navigation(): page.click('.chips a')
        assert 'of 80' in page.inner_text('main')

        # one galaxy
        page.goto(wall)
        with page.expect_navigation(): page.locator('.wall .galaxy a.open').nth(2).click()
        name = page.inner_text('h1')
        looked(page)
        text = page.inner_text('main')
        for part in ('Path through the decision tree', 'Nearest neighbors', 'volunteers', 'standard deviation', 'expected disagreement', 'entropy'): assert part in text, part
        assert page.locator('svg').count() >= 1
        with page.expect_navigation(): page.locator('.one a.like').first.click()
        assert name in page.inner_text('h1') and name not in shown(page) and len(shown(page)) == 48

        # an image that is dropped in
        image = next((galaxies/IMAGES).glob(f'{name}.jpg'))
        page.set_input_files('form.drop input', image)
        with page.expect_navigation(): page.click('form.drop button')
        assert page.inner_text('h1').startswith(name)
        with page.expect_navigation(): page.locator('.one a.like').first.click()
        assert shown(page)[0] == name

        # marks by hand and by keys
        page.goto(wall)
        first = shown(page)
        page.locator('.mark button[value=yes]').nth(0).click()
        page.locator('.mark button[value=yes]').nth(1).click()
        page.locator('.mark button[value=no]').nth(2).click()
        pressed(page, 3)
        page.locator('.wall .galaxy a.open').nth(2).focus()
        page.keyboard.press('ArrowRight')
        page.keyboard.press('w')
        pressed(page, 4)
        marks = tmp_path/'marks.csv'
        assert read_labels(marks, form='counts').counts.tolist() == [[1, 0], [1, 0], [0, 1], [1, 0]]
        assert read_labels(marks, form='counts').ids.tolist() == first[:4]
        page.keyboard.press('w')      # and off again
        pressed(page, 3)

        # teach
        page.goto(wall)
        with page.expect_navigation(): page.click('text=Ranked by your marks: wanted')
        assert len(shown(page)) == 48 and not set(first[:3]) & set(shown(page))
        # export
        for kind, start in (('CSV', b'GalaxyID,'), ('PNG', b'\x89PNG'), ('PDF', b'%PDF')):
            with page.expect_download() as download: page.click(f'a:text-is("{kind}")')
            assert download.value.path().read_bytes().startswith(start)


def test_keys(browser, wall):
    with window(browser, wall) as page:
        page.keyboard.press(']')
        page.wait_for_url('**page=2**')
        page.keyboard.press('[')
        page.wait_for_url(lambda url: 'page=2' not in url)
        first = shown(page)
        page.keyboard.press('ArrowRight')
        page.keyboard.press('ArrowRight')
        page.keyboard.press('Enter')
        page.wait_for_url('**/galaxy?**')
        assert page.inner_text('h1') == first[1]
        with page.expect_navigation(): page.keyboard.press('ArrowLeft')     # to its end: until then nothing listens to keys
        assert page.inner_text('h1') == first[0]
        with page.expect_navigation(): page.keyboard.press('Escape')
        page.keyboard.press('/')
        page.keyboard.type(first[5])
        page.keyboard.press('Enter')
        page.wait_for_url('**find=**')
        assert shown(page) == [first[5]]


def test_on_a_phone(browser, wall):
    with window(browser, wall, width=390) as page:
        for place in ('/', '/?sort=improbability&f=all:Class1.1,0.1,0.9', f'/galaxy?id={shown(page)[0]}'):
            page.goto(wall+place)
            page.wait_for_load_state('networkidle')
            assert page.evaluate('document.documentElement.scrollWidth') <= 390, place


def test_hostile_names_stay_text(browser, run, galaxies, cache, tmp_path):
    (tmp_path/'images').mkdir()
    for name, f in zip(NAMES, sorted((galaxies/IMAGES).iterdir())): shutil.copy(f, tmp_path/'images'/f'{name}.jpg')
    with explorer(tmp_path, cache, run, '--images', tmp_path/'images') as url, window(browser, url) as page:
        assert set(shown(page)) == set(NAMES)
        for name in NAMES:
            page.goto(url)
            with page.expect_navigation(): page.locator('.wall .galaxy', has_text=name).locator('a.open').first.click()
            assert page.inner_text('h1') == name
            looked(page)
            assert page.evaluate("[...document.images].every(o => o.naturalWidth)")
            with page.expect_navigation(): page.locator('.one a.like').first.click()
            assert name not in shown(page)
        page.goto(url)
        page.locator('.mark button[value=yes]').first.click()
        page.wait_for_selector('.mark button[aria-pressed=true]')
    assert len(read_labels(tmp_path/'marks.csv', form='counts')) == 1


def test_two_runs_and_predictions(browser, run, galaxies, cache, tmp_path, command):
    shutil.copytree(run, tmp_path/'other')
    with explorer(tmp_path, cache, run, tmp_path/'other', '--images', galaxies/IMAGES) as url, window(browser, f'{url}/?sort=runs') as page:
        text = page.inner_text('.wall')
        assert run.name in text and 'other' in text
    # a table that was predicted, with a column of its own
    table = tmp_path/'table.csv'
    assert command('gz_fastai_predict', run, '--images', galaxies/IMAGES, '--out', table).returncode == 0
    pd.read_csv(table).assign(redshift=lambda t: t.index/100).to_csv(table, index=False)
    with explorer(tmp_path, cache, run, '--images', galaxies/IMAGES, '--predictions', table) as url, window(browser, f'{url}/?f=column:redshift,0.1,0.19') as page:
        assert len(shown(page)) == 10


def test_wrong_arguments(command, run, galaxies, tmp_path):
    images = galaxies/IMAGES
    (tmp_path/'marks.csv').write_text('GalaxyID,mass\n1,2\n')
    for args, why in (([tmp_path/'none'], 'none'), ([run, '--images', tmp_path/'nothing', '--marks', 'm.csv'], 'nothing'), ([run, '--predictions', tmp_path/'x.csv', '--marks', 'm.csv'], 'no such file'),
                      ([run, '--port', -1], 'port must be'), ([run, '--host', 'no.such.host.invalid'], 'is not an address of this machine'), ([run], "has a column 'mass'"),
                      ([run, '--marks', 'm.parquet'], 'must end in .csv')):
        res = command('gz_fastai_explore', *args, *([] if '--images' in args else ['--images', images]))
        assert res.returncode == 2 and why in res.stderr and len(res.stderr.splitlines()) == 1, (args, res.stderr)


def test_marks_are_labels(command, galaxies, tmp_path):
    "A network is trained on a file of marks"
    ids = [o.stem for o in sorted((galaxies/IMAGES).iterdir())][:40]
    pd.DataFrame(dict(GalaxyID=ids, wanted_yes=[1, 0]*20, wanted_no=[0, 1]*20)).to_csv(tmp_path/'marks.csv', index=False)
    (tmp_path/'labels.toml').write_text(f"data = '{tmp_path}'\nlabels = '{tmp_path}/marks.csv'\nform = 'counts'\nimages = '{galaxies/IMAGES}'\n")
    res = command('gz_fastai_train', '--config', 'labels.toml', '--arch', 'test_resnet', '--size', 32, '--epochs', 1, '--out', 'taught')
    assert res.returncode == 0, res.stderr
    assert (tmp_path/'taught'/'model.safetensors').exists()
