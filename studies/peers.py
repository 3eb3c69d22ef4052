"""What the same few minutes of training from scratch give: this package beside stock fastai and timm's pieces.

    python studies/peers.py --data galaxy-zoo --valid validation_ids.csv --minutes 5 [--quick 3]

All train for the same wall-clock time on the same galaxies from the same files, at 64 px, what it takes to get at the pixels
included, and are scored on the same validation galaxies with one view and with the mean over 8 (flips and quarter turns).

- fastai: vision_learner with timm's ResNet-18, sigmoid and MSE, aug_transforms (flips, rotation, zoom), one cycle, fp32.
- timm: ResNet-18, sigmoid and MSE, its loader and transforms (flips, random crops), AdamW, warm-up and cosine, moving average
  of the weights, half precision where the CPU has it.
- gz_fastai: `gz_fastai_train --arch vgg7 --minutes`; with `--quick`, also at 32 px in fewer minutes.

One seed each. Run it on a quiet machine. A row each goes to the CSV of `--out`.
"""
import argparse, tempfile, time

import timm
from fastai.vision.all import *
from timm.data import create_loader
from timm.utils import ModelEmaV3

from gz_fastai.core import *
from gz_fastai.data.catalog import *
from gz_fastai.training.config import *
from gz_fastai.data.loaders import *
from gz_fastai.model.learner import auto_precision
from gz_fastai.model.metrics import *
from gz_fastai.training.train import *

CROP, SIZE, BS, STATS, LR = 180, 64, 64, ([.05]*3, [.1]*3), 2e-3


def score(predict, batches):
    "RMSE with one view and with the mean over eight, of a function from images to fractions"
    one, eight, targ = [], [], []
    for x, y in batches:
        x = x.as_subclass(torch.Tensor)
        with torch.no_grad(): p = torch.stack([predict(torch.rot90(o, k, (2, 3)).contiguous()).float() for o in (x, x.flip(3)) for k in range(4)])
        one.append(p[0]); eight.append(p.mean(0)); targ.append(torch.as_tensor(y))
    return [galaxy_rmse(torch.cat(o), torch.cat(targ)) for o in (one, eight)]


class Stop(Callback):
    "Validate never, and end at a time or after some steps"
    def __init__(self, at, steps=None): store_attr()
    def before_validate(self): raise CancelValidException
    def after_batch(self):
        if time.time() > self.at or self.steps and self.train_iter >= self.steps: raise CancelFitException


def stock_fastai(cat, seconds):
    begun = time.time()
    block = DataBlock(blocks=(ImageBlock, RegressionBlock(n_out=len(cat.schema))), get_x=lambda r: cat.files[r], get_y=lambda r: cat.labels[r],
                      splitter=lambda o: (cat.train.tolist(), cat.valid.tolist()), item_tfms=[CropPad(CROP), Resize(SIZE)],
                      batch_tfms=aug_transforms(flip_vert=True, max_rotate=180., max_zoom=1.1, min_zoom=.9, max_warp=0., max_lighting=0.) + [Normalize.from_stats(*STATS, cuda=False)])
    dls = block.dataloaders(list(range(len(cat))), bs=BS, num_workers=2, device='cpu')
    def fit(epochs, stop):
        learn = vision_learner(dls, 'resnet18', pretrained=False, normalize=False, n_out=len(cat.schema), y_range=(0, 1), loss_func=MSELossFlat(), path=tempfile.mkdtemp())
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, LR, cbs=stop)
        return learn.model.eval()
    look = time.time()
    fit(1, Stop(1e12, 30))                        # how long a step takes
    epochs = max(1, int((seconds-(time.time()-begun))*30/(time.time()-look)/len(dls.train)))
    model = fit(epochs, Stop(begun+seconds))
    took = time.time()-begun
    return model, dls.valid, epochs, took


class Files(torch.utils.data.Dataset):
    "The middle of images from their files, with their labels"
    def __init__(self, cat, rows, side): self.cat, self.rows, self.side, self.transform = cat, rows, side, None
    def __len__(self): return len(self.rows)
    def __getitem__(self, i):
        x = PILImage.create(self.cat.files[self.rows[i]])
        a, b = [(o-self.side)//2 for o in x.size]
        return self.transform(x.crop((a, b, a+self.side, b+self.side))), self.cat.labels[self.rows[i]]


def timm_pieces(cat, seconds):
    begun = time.time()
    common = dict(input_size=(3, SIZE, SIZE), batch_size=BS, use_prefetcher=False, mean=STATS[0], std=STATS[1], num_workers=2, interpolation='bilinear', crop_pct=1., device=torch.device('cpu'))
    loader = create_loader(Files(cat, cat.train, round(1.1*CROP)), is_training=True, scale=(.7, 1.), ratio=(1., 1.), hflip=.5, vflip=.5, color_jitter=None, **common)
    valid = create_loader(Files(cat, cat.valid, CROP), is_training=False, **common)
    net = timm.create_model('resnet18', num_classes=len(cat.schema)).to(memory_format=torch.channels_last)
    opt, average, half, steps = torch.optim.AdamW(net.parameters(), LR, weight_decay=.05), ModelEmaV3(net, decay=.99), auto_precision('cpu')[0] == 'bf16', 0
    while (share := (time.time()-begun)/seconds) < 1:
        for x, y in loader:
            share = (time.time()-begun)/seconds
            if share >= 1: break
            for g in opt.param_groups: g['lr'] = LR*min(share/.05, .5*(1+math.cos(math.pi*share)))      # by the clock
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=half): out = net(x.contiguous(memory_format=torch.channels_last))
            F.mse_loss(out.float().sigmoid(), y).backward()
            opt.step(); opt.zero_grad(); average.update(net); steps += 1
    took, net = time.time()-begun, average.module.eval()
    return lambda x: net(x).sigmoid(), valid, round(steps*BS/len(cat.train), 1), took


def gz_fastai(cat, seconds, **settings):
    begun = time.time()
    run = train(Config(data=cat.path, valid=args.valid, minutes=seconds/60, out=tempfile.mkdtemp()+'/run', **settings))
    took = time.time()-begun
    model, loss, info = run.model()
    dls = GalaxyDataLoaders.from_catalog(cat, size=info['size'], crop=info['crop'], stats=info['stats'], device='cpu')
    return lambda x: loss.activation(model(x)), dls.valid, run.resolved['epochs'], took


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder with images and labels')
    p.add_argument('--valid', help='CSV of the GalaxyIDs to validate on; default: a fixed tenth')
    p.add_argument('--minutes', type=float, default=5)
    p.add_argument('--quick', type=float, metavar='MINUTES', help='time for gz_fastai at 32 px')
    p.add_argument('--out', type=Path, default=Path('peers.csv'), help='CSV to write')
    args = p.parse_args()
    cat = Catalog(args.data, valid=args.valid)
    contestants = [('gz_fastai, vgg7', gz_fastai, args.minutes), ("timm's pieces, ResNet-18", timm_pieces, args.minutes), ('stock fastai, ResNet-18', stock_fastai, args.minutes)]
    if args.quick: contestants.insert(0, ('gz_fastai, vgg7, 32 px', partial(gz_fastai, size=32), args.quick))
    table = []
    for who, f, minutes in contestants:
        set_seed(0, reproducible=True)
        predict, batches, epochs, took = f(cat, 60*minutes)
        one, eight = score(predict, batches)
        table.append({'who': who, 'minutes': minutes, 'epochs': epochs, 'one view': round(one, 4), '8 views': round(eight, 4), 'seconds': round(took)})
        with atomic_write(args.out) as tmp: pd.DataFrame(table).to_csv(tmp, index=False)
        print(table[-1], flush=True)
