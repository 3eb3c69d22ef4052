"""What networks pretrained on ImageNet reach, by what is trained of them and how.

    python studies/pretrained.py --data galaxy-zoo --weights FOLDER --without validation_ids.csv [--only ARM ...]
    python studies/pretrained.py --data galaxy-zoo --weights FOLDER --valid validation_ids.csv --only ARM ...

FOLDER holds NAME.safetensors of the backbones. The first command trains arms on nine tenths of the training galaxies and scores them
on the last tenth (by the hash of their IDs), without the galaxies of `--without`; the second trains the chosen arms on all and scores
them on those of `--valid`. A row per arm goes to pretrained.csv beside this file; rows that are there are not run again.
RMSE with one view and with the mean over eight (flips and quarter turns).
"""
import argparse, tempfile, time
from pathlib import Path

from fastai.vision.all import *
from timm.models import group_parameters

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.data.fits import *
from gz_fastai.data.loaders import *
from gz_fastai.model.start import *
from gz_fastai.model.backbones import *
from gz_fastai.model.learner import *

import peers

TABLE = Path(__file__).with_suffix('.csv')
LITE0, LITE2 = 'tf_efficientnet_lite0', 'tf_efficientnet_lite2'
ARMS = {     # Adam's default learning rate for pretrained weights is .00075, Muon's .0015
    'all': dict(), 'all, lr .003': dict(lr=.003), 'all, muon': dict(opt='muon'), 'all, muon, lr .006': dict(opt='muon', lr=.006),
    'all, layers decay by .7': dict(lr=.003, decay=.7), 'head': dict(finetune='head', lr=.003), 'gradual': dict(finetune='gradual', lr=.003),
    'lora': dict(finetune='lora', lr=.003), 'lora, muon, lr .006': dict(finetune='lora', opt='muon', lr=.006), 'head, muon, lr .006': dict(finetune='head', opt='muon', lr=.006),
    'from scratch, muon': dict(weights=False, opt='muon', lr=.006), 'all, crop 120': dict(lr=.003, crop=120),
    'Lite2, all, muon, lr .006': dict(arch=LITE2, opt='muon', lr=.006), '128 px, all, muon, lr .006': dict(size=128, opt='muon', lr=.006),
    '64 px, 7 epochs, all, muon, lr .006': dict(size=64, epochs=7, opt='muon', lr=.006),
    '10 epochs, all, muon, lr .006': dict(epochs=10, opt='muon', lr=.006),
}


def layers(model):
    "The parameters of each layer from the first to the head, as timm divides them"
    body, head = model
    names = group_parameters(body, body.group_matcher(coarse=True))
    ps = dict(body.named_parameters())
    groups = [[ps[n] for n in names[k] if n in ps] for k in sorted(names)]
    return L([o for o in groups if o] + [list(head.parameters())])


def trial(cat, folder, arch=LITE0, weights=True, size=96, crop=180, epochs=3, finetune='all', opt='adam', lr=None, decay=None):
    "Scores of an arm on the validation galaxies"
    set_seed(0, reproducible=True)
    dls = GalaxyDataLoaders.from_catalog(cat, size=size, crop=crop, bs=64, stats=Start(arch, True).stats(galaxy_model(arch, 1)[0], ImageSpec()))
    file = str(folder/f'{arch}.safetensors') if weights else None
    learn = galaxy_learner(dls, arch, opt=opt, lr=lr, finetune=finetune, weights=file, path=tempfile.mkdtemp())
    lr = learn.lr
    if decay:
        learn.splitter = layers
        learn.create_opt()
    low = lr*decay**(len(layers(learn.model))-1) if decay else lr/100      # gradual: as gz_fastai_train
    begun = time.time()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, slice(low, lr) if decay or finetune == 'gradual' else lr)
    took, model = time.time()-begun, learn.model.eval()
    one, eight = peers.score(lambda x: learn.loss_func.activation(model(x)), dls.valid)
    return dict(arch=arch, size=size, epochs=epochs, lr=lr, rmse=round(one, 5), rmse_8=round(eight, 5), seconds=round(took))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--weights', required=True, type=Path, help='folder of NAME.safetensors')
    p.add_argument('--without', help='CSV of GalaxyIDs that take no part')
    p.add_argument('--valid', help='CSV of the GalaxyIDs to score on')
    p.add_argument('--only', nargs='*', choices=ARMS, metavar='ARM', help=' | '.join(ARMS))
    args = p.parse_args()
    cat = Catalog(args.data, valid=args.valid)
    if args.without: cat = cat.exclude(np.flatnonzero(pd.Index(cat.ids).isin(pd.read_csv(args.without, dtype=str).iloc[:, 0])))
    table = pd.read_csv(TABLE).to_dict('records') if TABLE.exists() else []
    for name in args.only or ARMS:
        arm = dict(arm=name, train=len(cat.train), valid=len(cat.valid))
        if any(arm.items() <= o.items() for o in table): continue
        table.append(arm | trial(cat, args.weights, **ARMS[name]))
        with atomic_write(TABLE) as tmp: pd.DataFrame(table).to_csv(tmp, index=False)
        print(table[-1], flush=True)
