"""Images per second of ready augmented batches: this package compared with stock fastai, torchvision and timm, on the same files.

    python benchmarks/loaders.py --data galaxy-zoo

Every row does the same thing: the central 216 pixels of a galaxy, flipped, rotated by any angle, magnified by up to 10%,
at 64 or 128 pixels, normalized, with its labels, in batches of 64; with `jitter` also brightness, contrast and, except for
fastai, color. timm has no rotation by arbitrary angles among its own transforms and does without. The store is built first;
its cost is printed below the table. Contestants take turns for several rounds, and the median of each counts. Run it on a
quiet machine; the ratios carry over to others, the rates do not.
"""
import argparse, json, subprocess, sys, tempfile, time
from pathlib import Path

import torch
from fastai.vision.all import *
from timm.data import create_loader
from torch.utils.data import DataLoader as TorchLoader
from torchvision.io import decode_image
from torchvision.transforms import v2

from gz_fastai.data.catalog import *
from gz_fastai.data.store import *
from gz_fastai.data.augment import *
from gz_fastai.data.loaders import *
from harness import clocked, in_turns, machine, memory, parser, repeated

CROP, BS, STATS = 216, 64, ([.05]*3, [.1]*3)


def ours(cat, size, jitter, workers, store):
    tfms = galaxy_transforms(size, jitter=.1 if jitter else 0.)
    return GalaxyDataLoaders.from_catalog(cat, size=size, crop=CROP, bs=BS, batch_tfms=tfms, stats=STATS, store=store, device='cpu').train


def stock_fastai(cat, size, jitter, workers, store):
    tfms = aug_transforms(flip_vert=True, max_rotate=180., max_zoom=1.1, min_zoom=.9, max_warp=0., p_affine=1.,
                          max_lighting=.1 if jitter else 0., p_lighting=1.)
    block = DataBlock(blocks=(ImageBlock, RegressionBlock(n_out=len(cat.schema))),
                      get_x=lambda r: cat.files[r], get_y=lambda r: cat.labels[r],
                      splitter=lambda o: (list(range(len(o))), list(range(BS))), item_tfms=[CropPad(CROP), Resize(size)],
                      batch_tfms=tfms + [Normalize.from_stats(*STATS, cuda=False)])
    return block.dataloaders(list(cat.train), bs=BS, num_workers=workers, device='cpu').train


class Files(torch.utils.data.Dataset):
    "Images from their files, with their labels"
    def __init__(self, cat, tfm, read): self.cat, self.transform, self.read = cat, tfm, read
    def __len__(self): return len(self.cat.train)
    def __getitem__(self, i):
        r = self.cat.train[i]
        return self.transform(self.read(self.cat.files[r])), self.cat.labels[r]


def torchvision_v2(cat, size, jitter, workers, store):
    affine = v2.RandomAffine(180, scale=(.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
    color = [v2.ColorJitter(.1, .1, .1)] if jitter else []
    tfm = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), affine, v2.CenterCrop(CROP), v2.Resize(size),
                      *color, v2.ToDtype(torch.float32, scale=True), v2.Normalize(*STATS)])
    return TorchLoader(Files(cat, tfm, lambda f: decode_image(str(f))), BS, shuffle=True, num_workers=workers, drop_last=True)


def timm_loader(cat, size, jitter, workers, store):
    data = Files(cat, None, PILImage.create)
    return create_loader(data, (3, size, size), BS, is_training=True, use_prefetcher=False, no_aug=False, scale=(.25, .27), ratio=(1., 1.),
                         hflip=.5, vflip=.5, color_jitter=.1 if jitter else 0., num_workers=workers, mean=STATS[0], std=STATS[1],
                         device=torch.device('cpu'), persistent_workers=False)


CONTESTANTS = [('gz_fastai', ours, 0), ('fastai', stock_fastai, 0), ('fastai', stock_fastai, 2),
               ('torchvision v2', torchvision_v2, 0), ('torchvision v2', torchvision_v2, 2), ('timm', timm_loader, 2)]


def rate(loader, seconds):
    "Images per second over whole epochs, or over the first `seconds` of one; without the first batch, for which workers start"
    it, n = iter(loader), 0
    next(it)
    start = time.perf_counter()
    while (spent := time.perf_counter()-start) < seconds:
        try: x, y = next(it)
        except StopIteration:
            it = iter(loader)
            continue
        n += len(x)
    return n/spent


def table(cat, sizes, seconds, rounds):
    for size in sizes:
        store, built = clocked(lambda: Store.open(cat.files, crop=CROP, size=size, folder=tmp/f'stores{size}'))
        for jitter in (False, True):
            def rate_of(make, w): return lambda: rate(make(cat, size, jitter, w, store), seconds)
            got, med = in_turns({(n, w): rate_of(make, w) for n, make, w in CONTESTANTS}, rounds)
            stock = max(v for (n, _), v in med.items() if n == 'fastai')
            ours_med = med['gz_fastai', 0]
            print(f'\n{size} px, flips, rotation, zoom{", jitter" if jitter else ""}')
            print(f'  {"loader":<16}{"workers":>8}{"images/s":>10}{"of ours":>9}   rounds')
            for (n, w), v in med.items():
                rounds_of = ' '.join(f'{o:,.0f}' for o in got[n, w])
                print(f'  {n:<16}{w:>8}{v:>10,.0f}{v/ours_med:>9.3f}   {rounds_of}')
            print(f'  ours over the faster stock fastai: {ours_med/stock:.1f}; over timm: {ours_med/med["timm", 2]:.1f}', flush=True)
            if not jitter: print(f'  building the store: {built:.1f} s, {built/(len(cat)/stock):.2f} epochs of stock fastai', flush=True)


def slope(cat, ns):
    print('\n64 px, one catalog size after the other, each in a process of its own: an epoch of batches\n'
          f'  {"galaxies":>9}{"build s":>9}{"us/image":>10}{"RssAnon before":>16}{"after":>8}{"RssFile MB":>12}')
    for n in ns:
        cmd = [sys.executable, __file__, '--data', cat.path, '--one', str(n), '--tmp', tmp]
        res = subprocess.run(cmd, capture_output=True, text=True, check=True)
        r = json.loads(res.stdout.splitlines()[-1])
        print(f'  {n:>9,}{r["build"]:>9.1f}{r["us"]:>10.0f}{r["before"]:>16.0f}{r["after"]:>8.0f}{r["file"]:>12.0f}', flush=True)


def one(cat, n):
    cat = repeated(cat, n, valid=range(n-BS+1, n+1))
    store, built = clocked(lambda: Store.open(cat.files, crop=CROP, size=64, folder=tmp/'slope'))
    loader = ours(cat, 64, True, 0, store)
    for _ in zip(range(10), loader): pass
    before, start, seen = memory(), time.perf_counter(), 0
    for x, y in loader: seen += len(x)
    us, after = (time.perf_counter()-start)/seen*1e6, memory()
    print(json.dumps(dict(build=built, us=us, before=before['RssAnon'], after=after['RssAnon'], file=after['RssFile'])))


if __name__ == '__main__':
    p = parser(__doc__)
    p.add_argument('--data', help='folder in Kaggle\'s layout; default: the synthetic sample')
    p.add_argument('--sizes', type=int, nargs='+', default=[64, 128], help='sides of the view, pixels')
    p.add_argument('--seconds', type=float, default=8, help='how long each contestant runs in a round')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--slope', type=int, nargs='*', default=[1000, 4000, 8000, 60000], help='catalog sizes for time and memory')
    p.add_argument('--tmp', help=argparse.SUPPRESS)
    p.add_argument('--one', type=int, help=argparse.SUPPRESS)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(args.tmp or folder)
        cat = Catalog(args.data) if args.data else Catalog.sample()
        if args.one: one(cat, args.one)
        else:
            print(f'{cat}\n{machine(torch.device("cpu"))}, {torch.get_num_threads()} threads')
            table(cat, args.sizes, args.seconds, args.rounds)
            if sys.platform == 'linux' and args.slope: slope(cat, args.slope)
