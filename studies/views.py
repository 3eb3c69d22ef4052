"""RMSE against the number of test-time views, for views averaged as fractions and as raw outputs.

    python studies/views.py RUN [RUN ...] --data galaxy-zoo [--valid validation_ids.csv] --out views.csv

A row per run, set of views and space: `fractions` is the mean of the predictions, `raw outputs` the prediction of the mean.
The galaxies are those of `--valid`; where it is not given, those that the run itself was validated on. With
`--valid` there are rows for the mean of the runs as well.
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.store import *
from gz_fastai.model.metrics import *
from gz_fastai.inference.options import *
from gz_fastai.inference.predictor import *


@torch.no_grad()
def both(p, pixels):
    "(fractions averaged over the views, fractions of the averaged raw outputs)"
    frac,raw = 0,0
    for view in p.views(pixels):
        with torch.autocast(p.device.type, dtype=p.dtype, enabled=p.dtype is not None): out = p.model(view).float()
        frac,raw = frac+p.activation(out),raw+out
    return frac/len(p.mats),p.activation(raw/len(p.mats))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('runs', nargs='+', help='folders of finished runs')
    ap.add_argument('--data', required=True, help='folder with images and labels')
    ap.add_argument('--valid', help='CSV of the GalaxyIDs to score on')
    ap.add_argument('--out', default='views.csv', help='CSV to write')
    args = ap.parse_args()
    rows,means = [],{}
    for run in args.runs:
        cat = Catalog(args.data, valid=args.valid or Path(run)/'valid.csv')
        targ = cat.labels[cat.valid]
        for views in VIEW_SETS:
            p = Predictor(run, views=views)
            store = Store.open([cat.files[i] for i in cat.valid], crop=p.look[0], size=p.look[1])
            frac,raw = [torch.cat(o).numpy() for o in zip(*[both(p, store.pixels[a:a+256]) for a in range(0, len(store), 256)])]
            for space,pred in (('fractions', frac), ('raw outputs', raw)):
                rows.append(dict(run=Path(run).name, galaxies=len(targ), views=views, space=space, rmse=round(galaxy_rmse(pred, targ), 5)))
                print(rows[-1], flush=True)
                means.setdefault((views, space), []).append(pred)
    if args.valid and len(args.runs) > 1:
        for (views,space),preds in means.items():
            mean = np.mean(preds, axis=0)
            print('{views} views as {space}: {rmse:.5f}, 95% interval {:.4f} to {:.4f}'.format(*Scored(mean, targ).interval(), views=views, space=space, rmse=galaxy_rmse(mean, targ)), flush=True)
            rows.append(dict(run=f'mean of {len(preds)}', galaxies=len(targ), views=views, space=space, rmse=round(galaxy_rmse(mean, targ), 5)))
    with atomic_write(args.out) as tmp: pd.DataFrame(rows).to_csv(tmp, index=False)


if __name__ == '__main__': main()
