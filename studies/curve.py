"""RMSE against the number of training galaxies, and what more of them would give.

    python studies/curve.py --data galaxy-zoo --valid validation_ids.csv [--config recipe.toml] [--name vgg7] --out curve.csv
    python studies/curve.py --fit 61578 --out curve.csv

Trains as `learning_curve` does: each seed draws its own galaxies, and fewer of them are trained on for more epochs. A row per number
and seed: RMSE on the galaxies of `--valid`, with one view and with the mean over eight. The same command resumes: finished trainings
are skipped, and an interrupted one continues after its last complete epoch. `--fit` trains nothing: it prints the power law of each
recipe in the table, and the RMSE that it gives for so many galaxies, with a 95% interval.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.model.metrics import *
from gz_fastai.model.runs import *
from gz_fastai.training.config import *
from gz_fastai.training.curve import *

from frontier import predicted


def scores(run, cat):
    "RMSE on the validation galaxies, with one view and with the mean over eight"
    return {f'rmse_{v}': round(galaxy_rmse(predicted(run, cat, v), cat.labels[cat.valid]), 5) for v in (1, 8)}


def train_all(args, rows):
    "Add the rows that are missing"
    cfg = Config.read(args.config) if args.config else Config()
    cat, runs = Catalog(args.data, valid=args.valid), args.out.with_suffix('')/args.name
    cfg = replace(cfg, data=args.data, valid=args.valid, minutes=None, out=str(runs))
    most = len(cat.train)
    if max(args.numbers, default=0) > most: raise BadInput(f'--numbers: there are {most} training galaxies')
    for seed, n in [(s, n) for s in args.seeds for n in dict.fromkeys([*args.numbers, most])]:
        if (args.name, n, seed) in {(o['recipe'], o['galaxies'], o['seed']) for o in rows}: continue
        row = learning_curve(cfg, [n], [seed]).iloc[0]
        rows.append(dict(recipe=args.name, galaxies=n, seed=seed, epochs=int(row.epochs), **scores(Run(row.run), cat), seconds=round(row.seconds)))
        with atomic_write(args.out) as tmp: pd.DataFrame(rows).to_csv(tmp, index=False)
        print(rows[-1], flush=True)


def fit(file, n):
    "Print the law of each recipe, and what it gives for n galaxies"
    table = pd.read_csv(file, dtype=dict(recipe=str))
    for (recipe, views), part in [((r, v), p) for r, p in table.groupby('recipe', sort=False) for v in (1, 8)]:
        law = PowerLaw(part.galaxies, part[f'rmse_{views}'])
        print(f'{recipe}, views {views}: {law}; {n:,} galaxies: {"{:.4f} ({:.4f} to {:.4f})".format(*law(n))}')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', help='folder with images and labels')
    p.add_argument('--valid', help='CSV of the GalaxyIDs to score on')
    p.add_argument('--config', help='TOML file with the recipe; default: the default one')
    p.add_argument('--name', default='vgg7', help='of the recipe, in the table')
    p.add_argument('--numbers', type=int, nargs='*', default=[500, 1000, 2000, 4000], help='of galaxies; all are trained on as well')
    p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--fit', type=int, metavar='N', help='only fit what is in the table, and extrapolate to N galaxies')
    p.add_argument('--out', type=Path, default=Path('curve.csv'), help='CSV to add to; the runs lie beside it')
    args = p.parse_args()
    rows = pd.read_csv(args.out, dtype=dict(recipe=str)).to_dict('records') if args.out.exists() else []
    try:
        if args.fit: fit(args.out, args.fit)
        elif not args.data or not args.valid: p.error('--data and --valid are needed to train')
        else: train_all(args, rows)
    except BadInput as e: p.error(e)
