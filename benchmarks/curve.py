"""RMSE against the number of training galaxies, and what more of them would give.

    python benchmarks/curve.py --data galaxy-zoo --valid validation_ids.csv [--config recipe.toml] [--name vgg7] --out curve.csv

Each number takes the same first galaxies of a random order, so that a larger set holds the smaller ones; a seed has its own order.
A recipe's epochs are those for all galaxies: n of N get sqrt(N/n) times as many, since few galaxies need more passes and all need
fewer steps. A row per number and seed: RMSE on the galaxies of `--valid`, with one view and with eight. The same command
resumes: finished trainings are skipped, and an interrupted one continues after its last complete epoch.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gz_fastai.core import *
from gz_fastai.data.catalogue import *
from gz_fastai.model.metrics import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

from frontier import predicted


def scores(run, cat):
    "RMSE on the validation galaxies, with one view and with eight"
    return {f'rmse_{v}': round(galaxy_rmse(predicted(run, cat, v), cat.labels[cat.valid]), 5) for v in (1, 8)}


def labels_of(cat, n, seed, file):
    "A label file of the first n training galaxies in a random order, and all validation galaxies"
    rows = np.random.default_rng(seed).permutation(cat.train)[:n]
    rows = np.sort(np.concatenate([rows, cat.valid]))
    table = pd.DataFrame(cat.labels[rows], columns=cat.schema.columns)
    table.insert(0, cat.schema.id_column, cat.ids[rows])
    with atomic_write(file) as tmp: table.to_csv(tmp, index=False)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--valid', required=True, help='CSV of the GalaxyIDs to score on')
    p.add_argument('--config', help='TOML file with the recipe; default: the default one')
    p.add_argument('--name', default='vgg7', help='of the recipe, in the table')
    p.add_argument('--numbers', type=int, nargs='*', default=[500, 1000, 2000, 4000], help='of galaxies; all are trained on as well')
    p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--out', type=Path, default=Path('curve.csv'), help='CSV to add to; the runs lie beside it')
    args = p.parse_args()
    recipe = Config.read(args.config) if args.config else Config()
    cat = Catalogue(args.data, valid=args.valid)
    rows = pd.read_csv(args.out, dtype=dict(recipe=str)).to_dict('records') if args.out.exists() else []
    done = {(o['recipe'], o['galaxies'], o['seed']) for o in rows}
    if max(args.numbers, default=0) > len(cat.train): p.error(f'--numbers: there are {len(cat.train)} training galaxies')
    runs = args.out.with_suffix('')
    runs.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for n in [*args.numbers, len(cat.train)]:
            if (args.name, n, seed) in done: continue
            folder, labels = runs/f'{args.name}-{n}-{seed}', runs/f'labels-{n}-{seed}.csv'
            labels_of(cat, n, seed, labels)
            epochs = round(recipe.epochs*(len(cat.train)/n)**.5)
            run = train(replace(recipe, data=args.data, valid=args.valid, labels=str(labels.resolve()), epochs=epochs, minutes=None, seed=seed, out=str(folder)))
            rows.append(dict(recipe=args.name, galaxies=n, seed=seed, epochs=epochs, **scores(run, cat), seconds=round(run.metrics['seconds'])))
            with atomic_write(args.out) as tmp: pd.DataFrame(rows).to_csv(tmp, index=False)
            print(rows[-1], flush=True)


if __name__ == '__main__': main()
