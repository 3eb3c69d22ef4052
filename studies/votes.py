"""What training on votes is worth: by their likelihood or by the RMSE of fractions, and on several campaigns at once.

    python studies/votes.py simulated            synthetic galaxies with 5 and with 40 volunteers, scored on the true fractions
    python studies/votes.py campaigns            a GZ2-like and a DECaLS-like survey, alone and together
    python studies/votes.py real --data galaxy-zoo --valid validation_ids.csv --minutes 10
                                                 real galaxies, with counts made as round(40 x fraction of those asked)

Each adds its rows to votes.csv beside this file, and does not run again what is there. `real` needs a quiet machine. `rmse of all fractions`
is trained on the same votes as Kaggle's fractions, without their number; `rmse` weighs each question by its votes.
"""
import argparse, tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from gz_fastai.data.campaigns import *
from gz_fastai.data.sample import *
from gz_fastai.data.catalog import *
from gz_fastai.model.metrics import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

TABLE = Path(__file__).with_suffix('.csv')


def done(**row):
    "Whether the table has such a row"
    if not TABLE.exists(): return False
    table = pd.read_csv(TABLE)
    return (table.reindex(columns=[*row]) == pd.Series(row)).all(axis=1).any()


def add(**row):
    "Add a row to the table, and print it"
    print(row, flush=True)
    old = pd.read_csv(TABLE) if TABLE.exists() else None
    pd.concat([old, pd.DataFrame([row]).round(5)]).to_csv(TABLE, index=False)


def truth_rmse(run, folder, ids=None):
    "RMSE of a run's validation predictions on the true fractions of a sample"
    truth = pd.read_csv(Path(folder)/TRUTH_FILE)
    truth = truth.set_index(truth.columns[0])
    truth.index = truth.index.astype(str)
    pred = run.predictions.set_index(run.schema.id_column)
    rows = pred.index[pred.index.isin(truth.index)] if ids is None else ids
    return galaxy_rmse(pred.loc[rows, truth.columns], truth.loc[rows])


LABELS = {'rmse of all fractions': ('gz2', 'rmse'), 'rmse': ('gz2-catalogue', 'rmse'), 'votes': ('gz2-catalogue', 'likelihood')}


def simulated(args, out):
    for volunteers in (5, 40):
        for seed in range(3):
            for name, (campaign, loss) in LABELS.items():
                row = dict(what='simulated', volunteers=volunteers, loss=name, seed=seed)
                if done(**row): continue
                folder = make_sample(args.n, seed=11, campaign=campaign, volunteers=volunteers)
                run = train(Config(data=str(folder), loss=loss, seed=seed, size=args.size, epochs=args.epochs, out=str(out/f'{volunteers}-{name}-{seed}')))
                add(**row, rmse=truth_rmse(run, folder), nll=run.metrics.get('nll'))


def campaigns(args, out):
    parts = [make_sample(args.n, seed=i, campaign=o) for i,o in ((12, 'gz2-catalogue'), (13, 'decals-dr5'))]
    for seed in range(3):
        for name,data in (('gz2-catalogue', parts[:1]), ('decals-dr5', parts[1:]), ('together', parts)):
            if done(what='campaigns', trained=name, seed=seed): continue
            run = train(Config(data=tuple(map(str, data)), loss='likelihood', seed=seed, size=args.size, epochs=args.epochs, out=str(out/f'{name}-{seed}')))
            for part in data: add(what='campaigns', trained=name, scored=sample_info(part)['campaign'], seed=seed, rmse=truth_rmse(run, part))


def real(args, out):
    cat = Catalog(args.data, valid=args.valid)
    tree = CAMPAIGNS['gz2-catalogue'].schema
    asked = cat.schema.per_column(cat.schema.asked(cat.labels)) > 0
    counts = np.where(asked, np.round(40*cat.schema.conditional(cat.labels)), 0).astype(int)
    table = pd.DataFrame(counts, columns=tree.columns)
    table.insert(0, 'objid', cat.ids)
    table['file_loc'] = [str(Path(f).absolute()) for f in cat.files]
    (out/'data').mkdir(exist_ok=True)
    table.to_csv(out/'data'/'votes.csv', index=False)
    for loss in args.losses.split(','):
        run = train(Config(data=str(out/'data'), valid=args.valid, loss=loss, size=args.size, minutes=args.minutes, out=str(out/loss)))
        pred = run.predictions.set_index(run.schema.id_column).loc[cat.ids[cat.valid], tree.columns]
        add(what='real', loss=loss, rmse=galaxy_rmse(pred, cat.labels[cat.valid]), nll=run.metrics.get('nll'), epochs=len(run.history))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['simulated', 'campaigns', 'real'])
    p.add_argument('--data'), p.add_argument('--valid'), p.add_argument('--out')
    p.add_argument('--n', type=int, default=1500)
    p.add_argument('--epochs', type=int, default=16)
    p.add_argument('--size', type=int, default=32)
    p.add_argument('--minutes', type=float, default=10)
    p.add_argument('--losses', default='rmse,votes')
    args = p.parse_args()
    out = Path(args.out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    globals()[args.what](args, out)
