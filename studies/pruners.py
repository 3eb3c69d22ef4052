"""Which pruner suits short runs: curves of random settings, none of them pruned, and every pruner replayed on them.

    python studies/pruners.py --data galaxy-zoo [--without validation_ids.csv] [--trials 24] [--epochs 6] [--share 3] --out pruners.csv

The settings are drawn at random from the default space, except for batches of 128; the first is the default. Each is trained on one in `--share` of the
galaxies and gives a row with its RMSE after each epoch on a tenth of them; the same command resumes. A replay shows Optuna
the default and then trials drawn from those rows, as a study would, until a budget of epochs is spent: as many as
half of `--trials` need without pruning. For each pruner the table says, as means over the replays, how many trials that were, what share
of them was pruned, and by how much the best that was kept is worse than the best of all rows; once for all
settings, and once for the better half, which are more like what a sampler proposes that has learnt.
"""
import argparse
import csv
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import HyperbandPruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *
from gz_fastai.training.tune import *

PRUNERS = {'none': lambda n: NopPruner(), 'successive halving': lambda n: SuccessiveHalvingPruner(1, 2), 'hyperband': lambda n: HyperbandPruner(1, n, 2)} | {
    f'best {p}%, from epoch {at+1}': lambda n, p=p, at=at: PercentilePruner(p, n_startup_trials=4, n_warmup_steps=at) for p in (90, 75, 50, 33) for at in (0, 1, 3)}


def curves(args, out):
    "Train until there is a row for each trial"
    labels = out.with_suffix('.labels.csv')
    table = pd.read_csv(label_source(args.data))
    if args.without: table = table[~table.iloc[:, 0].isin(pd.read_csv(args.without).iloc[:, 0])]
    with atomic_write(labels) as tmp: table.iloc[::args.share].to_csv(tmp, index=False)
    space = read_space(['bs=128'])[0]
    first = first_trial(Config(), space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    done = list(csv.DictReader(open(out))) if out.exists() else []
    for n in range(args.trials):
        trial = study.ask()
        params = first if n == 0 else {k: suggest_value(trial, k, v) for k,v in space.items()}
        if n < len(done): continue
        run = train(Config(data=args.data, labels=str(labels.resolve()), epochs=args.epochs, out=str(out.with_suffix('')/f'{n:04d}'), **params))
        done.append(dict(trial=n) | {k: round(v, 5) if isinstance(v, float) else v for k,v in params.items()} | {f'epoch {i+1}': round(v, 5) for i,v in enumerate(run.history.rmse)})
        with atomic_write(out) as tmp: pd.DataFrame(done).to_csv(tmp, index=False)


def replay(curve, pruner, order, budget):
    "(trials, share of them that was pruned, best RMSE of those that were not) when the epochs of the budget are spent"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(), pruner=NotAtTheEnd(pruner, curve.shape[1]))
    kept,spent,trials = [],0,0
    for values in curve[order]:
        trial = study.ask()
        for step,v in enumerate(values):
            trial.report(v, step)
            if pruned := trial.should_prune(): break
        spent += step+1
        if spent > budget: break
        trials += 1
        study.tell(trial, None if pruned else v, state=optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE)
        if not pruned: kept.append(v)
    return trials, 1-len(kept)/trials, min(kept)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--without', help='CSV of GalaxyIDs that take no part')
    p.add_argument('--trials', type=int, default=24)
    p.add_argument('--epochs', type=int, default=6)
    p.add_argument('--share', type=int, default=3, help='train on one in so many galaxies')
    p.add_argument('--replays', type=int, default=100, help='of each pruner')
    p.add_argument('--out', default='pruners.csv', help='CSV to append to; the runs lie beside it')
    args = p.parse_args()
    out = Path(args.out)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves(args, out)
    table = pd.read_csv(out)
    curve = table[[o for o in table if o.startswith('epoch ')]].to_numpy()
    for name,few in {'all settings': curve, 'the better half': curve[np.argsort(curve[:, -1], kind='stable')[:len(curve)//2]]}.items():
        rng,budget,default = np.random.default_rng(0),args.trials//2*curve.shape[1],np.flatnonzero((few == curve[0]).all(1))
        orders = [np.r_[default, rng.integers(0, len(few), budget)] for _ in range(args.replays)]
        rows = [[p, *np.mean([replay(few, make(curve.shape[1]), o, budget) for o in orders], 0)-[0, 0, few[:, -1].min()]] for p,make in PRUNERS.items()]
        print(f'\n{name}, {budget} epochs\n' + pd.DataFrame(rows, columns=['pruner', 'trials', 'pruned', 'worse by']).round(dict(trials=1, pruned=2) | {'worse by': 5}).to_string(index=False))


if __name__ == '__main__': main()
