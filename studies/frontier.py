"""How good a network gets in the time that version 0.1.0 needed, and what was tried on the way.

    python studies/frontier.py speed --data galaxy-zoo --old CHECKOUT_OF_0.1.0
    python studies/frontier.py tried --data galaxy-zoo --without validation_ids.csv [--teacher CROSSVAL] [--only NAME ...]
    python studies/frontier.py score --data galaxy-zoo --valid validation_ids.csv [--only NAME ...] [--seeds 0 1 2] [--weights FOLDER]

`speed` times epochs of 0.1.0 at 64 and 96 px and of today's default at several sizes, in turns: what fits into a budget on
this machine. `tried` trains arms on nine tenths of the training galaxies and scores them on the last tenth (by the hash of
their IDs), without the galaxies of `--without`: most for about the time of three epochs at 64 px, the long ones for that of ten.
An arm is a number of epochs at each size, and what is different otherwise. Taught arms train on the mean of the labels and
of what a cross-validation of the same galaxies (gz_fastai_crossval) predicted for them out of fold. `score` trains the recipes
that came out of it on all training galaxies, and scores them on those of `--valid`, with one view and with 16, each seed and the
mean of the seeds, as predicted and recalibrated, each tenth of the validation galaxies by the others; FOLDER has
NAME.safetensors of the pretrained networks, where the hub cannot be reached. Every row is written to frontier_*.csv beside this
file as soon as it is there; the same command resumes, except that an interrupted arm of `tried` starts again.
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path

from fastai.vision.all import *

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.augment import *
from gz_fastai.data.loaders import *
from gz_fastai.data.sample import *
from gz_fastai.data.store import *
from gz_fastai.inference.ensemble import *
from gz_fastai.inference.predictor import *
from gz_fastai.model.backbones import *
from gz_fastai.model.learner import *
from gz_fastai.model.metrics import *
from gz_fastai.model.runs import *
from gz_fastai.model.recalibration import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *

import peers

HERE = Path(__file__).parent


def rows(name):
    "The rows of a table so far"
    file = HERE/f'frontier_{name}.csv'
    return pd.read_csv(file, dtype=dict(arm=str, recipe=str, seed=str)).to_dict('records') if file.exists() else []


def add(name, table, **row):
    "Add a row to a table, and print it"
    table.append(row)
    with atomic_write(HERE/f'frontier_{name}.csv') as tmp: pd.DataFrame(table).to_csv(tmp, index=False)
    print(row, flush=True)


class Gate(nn.Module):
    "Squeeze and excitation"
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(n, n//8), nn.ReLU(), nn.Linear(n//8, n))
        nn.init.zeros_(self.fc[2].weight), nn.init.zeros_(self.fc[2].bias)
    def forward(self, x): return x*(2*self.fc(x.mean((2, 3))).sigmoid())[..., None, None]


class MeanAndLargest(nn.Module):
    "A body whose features are the means over the pixels, and the largest values; of vgg7_d4, over the eight views too"
    def __init__(self, body): super().__init__(); self.body, self.views = body, 8 if hasattr(body, 'mix') else 1
    def forward(self, x):
        x = getattr(self.body, 'mix', nn.Identity())(self.body.forward_features(x)).unflatten(1, (self.views, -1))
        return torch.cat([x.mean((1, 3, 4)), x.amax((1, 3, 4))], 1)


def gates(model):
    for b in model[0].blocks[2:]: b.append(Gate(b[0].out_channels))
    return model


def gelu(model):
    for b in model[0].blocks: b[[isinstance(o, nn.ReLU) for o in b].index(True)] = nn.GELU()
    return model


def dirac(model):
    for b in model[0].blocks: nn.init.dirac_(b[0].weight.data[:b[0].in_channels])
    return model


def both_pools(model):
    head = galaxy_head(2*model[0].head_hidden_size, model[1][-1].out_features)
    return nn.Sequential(MeanAndLargest(model[0]), head)


FAST = {32: 10}      # epochs at each size
SYMMETRIC = dict(plan={32: 20}, arch='vgg7_d4')
ARMS = {
    '64 px': dict(plan={64: 3}), '48 px': dict(plan={48: 5}), '40 px': dict(plan={40: 7}), '32 px': dict(plan=FAST),
    '48, then 64 px': dict(plan={48: 3, 64: 1}), '32, 48, then 64 px': dict(plan={32: 2, 48: 2, 64: 1}),
    '48 px, linear decay': dict(plan={48: 5}, linear=True), '48 px, no dropout': dict(plan={48: 5}, drop=0., block_drop=0.),
    '48 px, twice the learning rate': dict(plan={48: 5}, lr=.012), '40 px, twice the learning rate': dict(plan={40: 7}, lr=.012),
    '32 px, batches of 64': dict(plan=FAST, bs=64, lr=.0045), '32 px, GELU': dict(plan=FAST, change=gelu),
    '32 px, squeeze and excitation': dict(plan=FAST, change=gates), '32 px, Dirac': dict(plan=FAST, change=dirac),
    '32 px, mean and largest value': dict(plan=FAST, change=both_pools),
    'long, 40 px': dict(plan={40: 22}), 'long, 40 px, zoom 1.3, shift 0.05': dict(plan={40: 22}, tfms=dict(zoom=1.3, shift=.05)),
    'long, 40 px, dropout 0.3': dict(plan={40: 22}, drop=.3), 'long, 40 px, weight decay 0.2': dict(plan={40: 22}, wd=.2),
    'long, 40, then 64 px': dict(plan={40: 11, 64: 5}), 'long, 32, then 64 px': dict(plan={32: 12, 64: 5}),
    'quick, 32 px': dict(plan={32: 8}), 'quick, 32 px, twice the learning rate': dict(plan={32: 8}, lr=.012),
    'quick, 32 px, batches of 64': dict(plan={32: 8}, bs=64, lr=.0045), 'quick, 32 px, symmetric': dict(plan={32: 6}, arch='vgg7_d4'),
    '32 px, symmetric': dict(plan=FAST, arch='vgg7_d4'), 'long, 40 px, symmetric': dict(plan={40: 22}, arch='vgg7_d4'),
    '32 px, symmetric, 20 epochs': SYMMETRIC, '32 px, symmetric, 20 epochs, taught': SYMMETRIC | dict(taught=True),
    '32 px, symmetric, 20 epochs, mixup': SYMMETRIC | dict(cbs=[MixUp()]),
    '32 px, symmetric, 20 epochs, dropout 0.3': SYMMETRIC | dict(drop=.3), '32 px, symmetric, 20 epochs, weight decay 0.2': SYMMETRIC | dict(wd=.2),
    '32 px, symmetric, 20 epochs, mean and largest value': SYMMETRIC | dict(change=both_pools),
    '32 px, symmetric, 20 epochs, after 3 of synthetic galaxies': SYMMETRIC | dict(synthetic=3),
    '32 px, symmetric, 20 epochs, batches of 64': SYMMETRIC | dict(bs=64, lr=.0045),
}


def fit(learn, epochs, lr, linear, cbs):
    "One cycle, or a linear decay after a tenth of the steps"
    if not linear: return learn.fit_one_cycle(epochs, lr, cbs=cbs)
    decay = combine_scheds([.1, .9], [SchedLin(lr/25, lr), SchedLin(lr, lr/100)])
    learn.fit(epochs, cbs=[*cbs, ParamScheduler(dict(lr=decay))])


def taught_by(folder, cat):
    "Fractions halfway from the labels of training galaxies to what a cross-validation predicted for them"
    cv = CrossVal(folder)
    pred = cv.predictions.set_index(cv.schema.id_column)
    assert not pred.index.isin(cat.ids[cat.valid]).any(), 'the teacher has seen validation galaxies'
    labels = cat.labels.copy()
    labels[cat.train] = (labels[cat.train]+pred.loc[cat.ids[cat.train], cat.schema.columns].to_numpy())/2
    return labels


def trial(cat, plan, arch='vgg7', bs=128, lr=.006, wd=.05, drop=.1, block_drop=.02, linear=False, change=None, tfms=None, cbs=(), synthetic=None):
    "Scores of an arm on the validation galaxies"
    set_seed(0, reproducible=True)
    size, sizes = max(plan), [s for s, n in plan.items() for _ in range(n)]
    def loaders(cat): return GalaxyDataLoaders.from_catalog(cat, size=size, bs=bs, batch_tfms=galaxy_transforms(size, **tfms or {}))
    def learner(dls, model): return galaxy_learner(dls, model, lr=lr, wd=wd, path=tempfile.mkdtemp())
    dls = loaders(cat)
    model = galaxy_model(arch, dls.c, drop=drop, block_drop=block_drop)
    if change: model = change(model)
    begun = time.time()
    if synthetic:
        first = learner(loaders(Catalog(make_sample(20_000))), model)
        with first.no_bar(), first.no_logging(): fit(first, synthetic, lr, linear, [])
    learn = learner(dls, model)
    with learn.no_bar(), learn.no_logging(): fit(learn, len(sizes), lr, linear, [ProgressiveResizing(sizes), *cbs])
    took, model = time.time()-begun, learn.model.eval()
    one, eight = peers.score(lambda x: learn.loss_func.activation(model(x)), dls.valid)
    return dict(rmse=round(one, 5), rmse_8=round(eight, 5), seconds=round(took))


def tried(args):
    cat, table = Catalog(args.data), rows('tried')
    if args.without: cat.excluded = cat.excluded | pd.Index(cat.ids).isin(pd.read_csv(args.without, dtype=str).iloc[:, 0])
    for name in [o for o in ARMS if not args.only or o in args.only]:
        if name in {o['arm'] for o in table}: continue
        arm, part = dict(ARMS[name]), copy(cat)
        if arm.pop('taught', False): part.labels = taught_by(args.teacher, cat)
        add('tried', table, arm=name, epochs=', '.join(f'{n} of {s} px' for s, n in arm['plan'].items()), **trial(part, **arm))


COMMAND = 'from gz_fastai.cli import train_command; train_command()'


def epochs_of(code, data, size, n):
    "Seconds of an epoch by the code in a folder, validation included: the mean of n but the first"
    with tempfile.TemporaryDirectory() as tmp:
        flags = ['--data', data, '--size', str(size), '--epochs', str(n), '--out', 'run']
        subprocess.run([sys.executable, '-c', COMMAND, *flags], env=os.environ | dict(PYTHONPATH=str(code)), cwd=tmp, capture_output=True, check=True)
        times = pd.read_csv(Path(tmp)/'run'/'history.csv').time
    return float(np.mean([60*int(a)+int(b) for a, b in times.str.split(':')][1:]))


def speed(args):
    data, today, table = str(Path(args.data).resolve()), HERE.parent, rows('speed')
    args.old = args.old and Path(args.old).resolve()
    for _ in range(args.rounds):
        for who, code, size in [(w, c, s) for s in args.sizes for w, c in (('0.1.0', args.old), ('today', today)) if w == 'today' or c and s in (64, 96)]:
            add('speed', table, who=who, size=size, seconds=round(epochs_of(code, data, size, args.epochs), 1))


RECIPES = {   # what fits into 3 and into 20 epochs of the default at 64 px, and into four and a half times as much
    'VGG7, 64 px, 3 epochs': dict(epochs=3), 'VGG7, 32 px': dict(size=32, epochs=8),
    'VGG7, 64 px': dict(epochs=20), 'VGG7, 48 px': dict(size=48, epochs=34), 'VGG7, 40 px': dict(size=40, epochs=40),
    'symmetric, 32 px': dict(arch='vgg7_d4', size=32, epochs=6), 'symmetric, 48 px': dict(arch='vgg7_d4', size=48, epochs=24),
    'symmetric, 80 px': dict(arch='vgg7_d4', size=80, epochs=38),
    'pretrained, 96 px': dict(arch='tf_efficientnet_lite0', pretrained=True, size=96, epochs=10, bs=64, opt='muon', lr=.006),
}


def config(args, name, seed):
    "The settings of a recipe"
    cfg = RECIPES[name] | dict(data=args.data, valid=args.valid, seed=seed, out=str(args.runs/f'{name}-{seed}'))
    if args.weights and cfg.pop('pretrained', False): cfg['weights'] = str(args.weights/f'{cfg["arch"]}.safetensors')
    return Config(**cfg)


def predicted(run, cat, views):
    "Fractions of the validation galaxies"
    p = Predictor(run, views=views)
    store = Store.open([cat.files[r] for r in cat.valid], **dict(zip(('crop', 'size', 'reading'), p.look)))
    return np.concatenate([p(store.pixels[a:a+128]).numpy() for a in range(0, len(store), 128)])


def scores(cat, preds):
    "RMSE for each number of views, as predicted and recalibrated with what the other tenths give for one view"
    ids, targ = cat.ids[cat.valid], cat.labels[cat.valid]
    better = {v: crossfit_recalibration(Scored(preds[1], targ, ids=ids), of=o) for v, o in preds.items()}
    both = dict(rmse=preds, calibrated=better).items()
    return {f'{k}_{v}': round(galaxy_rmse(o, targ), 5) for k, of in both for v, o in of.items()}


def score(args):
    cat, table = Catalog(args.data, valid=args.valid), rows('score')
    for name in [o for o in RECIPES if not args.only or o in args.only]:
        preds = []
        for seed in args.seeds:
            run = train(config(args, name, seed))
            preds.append({v: predicted(run, cat, v) for v in (1, 16)})
            if (name, str(seed)) in {(o['recipe'], o['seed']) for o in table}: continue
            add('score', table, recipe=name, seed=str(seed), epochs=run.resolved['epochs'], **scores(cat, preds[-1]))
        seeds = f'mean of {len(preds)}'
        if len(preds) < 2 or (name, seeds) in {(o['recipe'], o['seed']) for o in table}: continue
        mean = {v: np.mean([o[v] for o in preds], axis=0) for v in (1, 16)}
        add('score', table, recipe=name, seed=seeds, epochs=run.resolved['epochs'], **scores(cat, mean))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['speed', 'tried', 'score'])
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--without', help='tried: CSV of GalaxyIDs that take no part')
    p.add_argument('--teacher', help='tried: folder of a cross-validation, for arms that are taught')
    p.add_argument('--valid', help='score: CSV of the GalaxyIDs to score on')
    p.add_argument('--old', help='speed: checkout of version 0.1.0')
    p.add_argument('--only', nargs='*', choices=[*ARMS, *RECIPES], metavar='NAME', help=f'arms: {" | ".join(ARMS)}; recipes: {" | ".join(RECIPES)}')
    p.add_argument('--weights', type=Path, help='score: folder of NAME.safetensors')
    p.add_argument('--seeds', nargs='*', type=int, default=[0, 1, 2])
    p.add_argument('--rounds', type=int, default=2, help='speed: how often everybody has a turn')
    p.add_argument('--sizes', nargs='*', type=int, default=[32, 40, 48, 64, 96], help='speed: of the images')
    p.add_argument('--epochs', type=int, default=3, help='speed: of a turn')
    p.add_argument('--runs', type=Path, default=Path('frontier'), help='score: folder of the runs')
    args = p.parse_args()
    if args.what == 'tried' and not args.teacher and any(ARMS[o].get('taught') for o in args.only or ARMS): p.error('arms that are taught need --teacher')
    dict(speed=speed, tried=tried, score=score)[args.what](args)
