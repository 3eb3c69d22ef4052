"""Makes the pictures of the README in nbs/images, from a run on the synthetic sample:

    gz_fastai_train --arch vgg7 --out runs/sample
    python docs/pictures.py runs/sample

`galaxies.jpg` shows galaxies with the predicted answers and the volunteers' answers; `report.jpg` shows the top of the run's report,
as headless Chromium renders it; `explore.jpg` and `explore_galaxy.jpg` show the explorer.
"""
import argparse
import shutil
import tempfile
import urllib.parse
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
from playwright.sync_api import sync_playwright

from gz_fastai.data.catalog import *
from gz_fastai.data.images import *
from gz_fastai.data.fits import *
from gz_fastai.data.schema import *
from gz_fastai.model.runs import *
from gz_fastai.explore.server import explore
from gz_fastai.explore.gallery import Query

IMAGES = Path(__file__).resolve().parent.parent/'nbs'/'images'


def different_kinds(votes, n):
    "IDs of `n` galaxies on which the volunteers came far down the tree, each the first of its kind"
    first = {}
    for i, row in votes.iterrows():
        answers = [a for a, _ in GZ2.describe(row)]
        if len(answers) > 2: first.setdefault(tuple(answers[:4]), i)
    deepest = sorted(first.values(), key=lambda i: -len(GZ2.describe(votes.loc[i])))
    return deepest[::max(1, len(deepest)//n)][:n]


def in_words(fractions): return '\n'.join(f'{a} {p:.0%}' for a, p in GZ2.describe(fractions))


def galaxies(run, n=4):
    "Validation galaxies with both sets of answers"
    cat = Catalog.sample()
    if not run.info['trained_on']['synthetic']: raise SystemExit('pictures of real galaxies are not ours to show')
    files = dict(zip(cat.ids, cat.files))
    pred, targ = [o.set_index(GZ2.id_column) for o in (run.predictions, run.observed)]
    fig, axs = plt.subplots(1, n, figsize=(2.6*n, 4.4), layout='constrained')
    for ax, i in zip(axs, different_kinds(targ, n)):
        im = read_image(files[str(i)])[0]
        x, y = im.width/2, im.height/2
        ax.imshow(im.crop([x-120, y-120, x+120, y+120]))
        ax.set_axis_off()
        ax.set_title('predicted\n'+in_words(pred.loc[i]), fontsize=7.5, color='#0072B2')
        ax.text(.5, -.04, 'volunteers\n'+in_words(targ.loc[i]), transform=ax.transAxes, ha='center', va='top', fontsize=7.5)
    fig.savefig(IMAGES/'galaxies.jpg', dpi=110, bbox_inches='tight', pil_kwargs=dict(quality=85))


def photograph(page, name, size=(1280, 1250)):
    "A page as headless Chromium renders it"
    chromium = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])))
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        shown = browser.new_page(viewport=dict(zip(('width', 'height'), size)))
        shown.goto(page)
        shown.wait_for_load_state('networkidle')
        shown.screenshot(path=IMAGES/f'{name}.jpg', type='jpeg', quality=80)
        browser.close()


def report(run):
    "The top of the report"
    photograph((run.path/'report.html').resolve().as_uri(), 'report', (1080, 795))


def explorer(run):
    "The explorer: a wall, and one galaxy"
    with tempfile.TemporaryDirectory() as tmp:
        shown = explore(run.path, Catalog.sample(), marks=f'{tmp}/marks.csv')
        query = Query((('all:Class2.2', .3, 1),), sort='asked:Class4.1')
        first = shown.gallery.ids[shown.gallery.select(query)[0]]
        photograph(f'{shown.url}/?{query.link()}', 'explore', (1280, 900))
        photograph(f'{shown.url}/galaxy?{urllib.parse.urlencode(dict(id=first))}', 'explore_galaxy', (1280, 1500))
        shown.stop()


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run', help='folder of a finished run on the sample')
    run = Run(p.parse_args().run)
    IMAGES.mkdir(exist_ok=True)
    galaxies(run)
    report(run)
    explorer(run)
