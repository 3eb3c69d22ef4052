"""Makes the README's pictures from a run on the synthetic sample, in nbs/images:

    gz_fastai_train --arch vgg7 --out runs/sample
    python docs/pictures.py runs/sample

`galaxies.jpg` shows galaxies with what the volunteers said and what the network predicts; `report.jpg` the top of the run's
report, as headless Chromium shows it.
"""
import argparse, shutil, subprocess, tempfile
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
from PIL import Image

from gz_fastai.catalogue import *
from gz_fastai.images import *
from gz_fastai.run import *
from gz_fastai.schema import *

IMAGES = Path(__file__).resolve().parent.parent/'nbs'/'images'


def galaxies(run, n=4):
    "Validation galaxies on which volunteers came far down the tree, with the answers of both"
    cat = Catalogue.sample()
    if not run.model()[2]['trained_on']['synthetic']: raise SystemExit('pictures of real galaxies are not ours to show')
    files = dict(zip(cat.ids, cat.files))
    pred, targ = [o.set_index(GZ2.id_column) for o in (run.predictions, run.observed)]
    seen, chosen = set(), []
    for i, row in targ.iterrows():                   # the first of each kind
        kind = tuple(a for a, _ in GZ2.describe(row))[:4]
        if kind not in seen and len(GZ2.describe(row)) > 2: seen.add(kind); chosen.append(i)
    fig, axs = plt.subplots(1, n, figsize=(2.6*n, 4.4), layout='constrained')
    for ax, i in zip(axs, sorted(chosen, key=lambda i: -len(GZ2.describe(targ.loc[i])))[::max(1, len(chosen)//n)]):
        im = read_image(files[str(i)])[0]
        ax.imshow(im.crop([im.width/2-120, im.height/2-120, im.width/2+120, im.height/2+120]))
        ax.set_axis_off()
        words = lambda f: '\n'.join(f'{a} {p:.0%}' for a, p in GZ2.describe(f))
        ax.set_title('predicted\n'+words(pred.loc[i]), fontsize=7.5, color='#0072B2')
        ax.text(.5, -.04, 'volunteers\n'+words(targ.loc[i]), transform=ax.transAxes, ha='center', va='top', fontsize=7.5)
    fig.savefig(IMAGES/'galaxies.jpg', dpi=110, bbox_inches='tight', pil_kwargs=dict(quality=85))


def report(run):
    "The top of the report"
    browser = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])))
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run([browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--window-size=1000,1250', f'--screenshot={tmp}/page.png', (run.path/'report.html').resolve().as_uri()], check=True, capture_output=True)
        Image.open(f'{tmp}/page.png').convert('RGB').save(IMAGES/'report.jpg', quality=80)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run', help='folder of a finished run on the sample')
    run = Run(p.parse_args().run)
    IMAGES.mkdir(exist_ok=True)
    galaxies(run)
    report(run)
