"""What each piece of the default recipe is worth: one run and one row of a CSV per arm.

    python studies/ablation.py --data galaxy-zoo [--without validation_ids.csv] [--only NAME ...] [--seeds 0 1] --out ablation.csv

Every arm changes one thing, or two, of the first, the reference. All are trained and scored on a fixed split of the training galaxies (a tenth, by
the hash of their IDs); the galaxies of `--without` take no part, so that they stay unseen by the choices made here. The same
command resumes: finished arms are skipped, and an interrupted one continues after its last complete epoch.
"""
import argparse
from pathlib import Path

import pandas as pd
from timm.models import build_model_with_cfg, register_model

from gz_fastai.core import *
from gz_fastai.experiment import *
from gz_fastai.data.catalog import *
from gz_fastai.model.backbones import *
from gz_fastai.model.runs import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

EPOCHS = 8
BASE = dict(arch='vgg7', size=64, crop=216, bs=128, opt='muon', lr=6e-3, wd=.05, drop=.25, zoom=1.1, activation='softmax', loss='rmse')   # the reference, whatever the defaults are today


@register_model
def vgg7_narrow(pretrained=False, **kwargs): return build_model_with_cfg(VGG7, 'vgg7', pretrained, width=.75, **kwargs)


@register_model
def vgg7_wide(pretrained=False, **kwargs): return build_model_with_cfg(VGG7, 'vgg7', pretrained, width=1.5, **kwargs)


ARMS = {'reference': {}, 'softmax, mse': dict(loss='mse')} | {f'{a}, {l}': dict(activation=a, loss=l) for a in ('sigmoid', 'divisive') for l in ('rmse', 'mse')} | {
    'adam': dict(opt='adam', lr=3e-3),
    'adam, batches of 64': dict(opt='adam', bs=64, lr=2e-3),
    'batches of 64': dict(bs=64, lr=4e-3),
    'average of the weights, 0.99': dict(ema=.99),
    'average of the weights, 0.95': dict(ema=.95),
    'no augmentation': dict(p_rotate=0., p_flip=0., p_zoom=0.),
    'flips only': dict(p_rotate=0., p_zoom=0.),
    'no zoom': dict(p_zoom=0.),
    'zoom 1.3': dict(zoom=1.3),
    'shift 0.05': dict(shift=.05),
    'jitter 0.1': dict(jitter=.1),
    'crop 180': dict(crop=180),
    'crop 160': dict(crop=160),
    'crop 180, dropout 0.1': dict(crop=180, drop=.1),
    'crop 160, no dropout': dict(crop=160, drop=0.),
    'narrow': dict(arch='vgg7_narrow'),
    'wide': dict(arch='vgg7_wide'),
    '96 px': dict(size=96),
    'no dropout in the head': dict(drop=0.),
    'weight decay 0.2': dict(wd=.2),
    'fp32': dict(precision='fp32'),
    'compiled': dict(compile=True),
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--without', help='CSV of GalaxyIDs that take no part')
    p.add_argument('--only', nargs='*', choices=list(ARMS), default=list(ARMS), metavar='NAME', help=', '.join(ARMS))
    p.add_argument('--seeds', nargs='*', type=int, default=[0])
    p.add_argument('--epochs', type=int, default=EPOCHS)
    p.add_argument('--out', default='ablation.csv', help='CSV to append to; the runs lie beside it')
    args = p.parse_args()
    out = Path(args.out)
    done = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=['arm', 'seed'])
    labels = out.with_suffix('.labels.csv')
    table = pd.read_csv(label_source(args.data))
    if args.without: table = table[~table.iloc[:, 0].isin(pd.read_csv(args.without).iloc[:, 0])]
    with atomic_write(labels) as tmp: table.to_csv(tmp, index=False)
    for seed in args.seeds:
        for arm in args.only:
            if ((done.arm == arm) & (done.seed == seed)).any(): continue
            folder = out.with_suffix('')/f'{arm.replace(" ", "-").replace(",", "")}-{seed}'
            cfg = Config(**dict(data=args.data, labels=labels.resolve(), epochs=args.epochs, seed=seed, out=folder) | BASE | ARMS[arm])
            rec = read_record(folder)
            if rec is None or rec.state != 'finished': train(cfg)
            run = Run(folder)
            row = dict(arm=arm, seed=seed, rmse=round(run.metrics['rmse'], 5), train_loss=round(run.history.train_loss.iloc[-1], 5), accuracy=round(run.metrics['accuracy']['accuracy'], 4), seconds=round(run.metrics['seconds']))
            done = pd.concat([done, pd.DataFrame([row])])
            with atomic_write(out) as tmp: done.to_csv(tmp, index=False)
            print(row, flush=True)
    print(done.to_string(index=False))


if __name__ == '__main__': main()
