"""What a start from other weights is worth: 500 real galaxies, four starts, three seeds.

    python studies/transfer.py --data galaxy-zoo --valid validation_ids.csv --imagenet tf_efficientnet_lite0.safetensors

VGG7 starts from scratch, from a network that was trained on the synthetic sample, and from one that was trained on all other galaxies
of the folder; EfficientNet-Lite0 starts from scratch and from ImageNet. From scratch the optimizer is
Muon, from weights it is Adam, each with its default learning rate. A row per run goes to transfer.csv beside this file; rows that are there are not run again.
"""
import argparse, contextlib, io
from pathlib import Path

import numpy as np
import pandas as pd

from gz_fastai.data.catalog import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

TABLE = Path(__file__).with_suffix('.csv')
FEW = 500


def subset(cat, ids, folder):
    "A folder with the labels of some galaxies, and a link to the images of all"
    folder.mkdir(exist_ok=True, parents=True)
    if not (folder/'images').exists(): (folder/'images').symlink_to(cat.images.absolute())
    rows = np.isin(cat.ids, ids)
    table = pd.DataFrame(cat.labels[rows], columns=cat.schema.columns)
    table.insert(0, cat.schema.id_column, cat.ids[rows])
    table.to_csv(folder/'training_solutions_rev1.csv', index=False)
    return str(folder)


def done(**row):
    "Whether a row is in the table"
    if not TABLE.exists(): return False
    table = pd.read_csv(TABLE).astype(str)
    return (table[list(row)] == pd.Series({k: str(v) for k, v in row.items()})).all(axis=1).any()


def trained(**kw):
    with contextlib.redirect_stdout(io.StringIO()): return train(Config(**kw))


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument('--data', required=True), p.add_argument('--valid', required=True), p.add_argument('--imagenet', required=True)
p.add_argument('--out', default='runs/transfer'), p.add_argument('--epochs', type=int, default=15), p.add_argument('--parent-epochs', type=int, default=8)
p.add_argument('--size', type=int, default=32, help='of VGG7'), p.add_argument('--imagenet-size', type=int, default=64)
args = p.parse_args()

out, cat = Path(args.out), Catalog(args.data, valid=args.valid)
train_ids, valid_ids = cat.ids[cat.train], cat.ids[cat.valid]
few = np.random.default_rng(0).choice(train_ids, FEW, replace=False)
data = subset(cat, [*few, *valid_ids], out/'few')
others = subset(cat, [*np.setdiff1d(train_ids, few), *valid_ids], out/'others')
parent = dict(arch='vgg7', size=args.size, epochs=args.parent_epochs)
vgg7, lite0 = dict(arch='vgg7', size=args.size), dict(arch='tf_efficientnet_lite0', size=args.imagenet_size)
starts = {'scratch': vgg7, 'synthetic sample': vgg7 | dict(weights=str(out/'synthetic')), 'the other galaxies': vgg7 | dict(weights=str(out/'other')),
          'scratch, Lite0': lite0, 'ImageNet, Lite0': lite0 | dict(weights=args.imagenet)}
for seed in range(3):
    for start, kw in starts.items():
        row = dict(start=start, arch=kw['arch'], size=kw['size'], seed=seed)
        if done(**row): continue
        if start == 'synthetic sample': trained(**parent, out=str(out/'synthetic'))
        if start == 'the other galaxies': trained(**parent, data=others, valid=args.valid, out=str(out/'other'))
        name = f'{start}-{seed}'.replace(' ', '-').replace(',', '')
        run = trained(**kw, data=data, valid=args.valid, epochs=args.epochs, bs=64, seed=seed, out=str(out/name))
        low, high = run.metrics['interval']
        row |= dict(epochs=args.epochs, rmse=round(run.metrics['rmse'], 5), low=round(low, 5), high=round(high, 5), seconds=run.metrics['seconds'])
        print(row, flush=True)
        pd.DataFrame([row]).to_csv(TABLE, mode='a', header=not TABLE.exists(), index=False)
