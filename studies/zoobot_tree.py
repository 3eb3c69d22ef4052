"""Zoobot's tree head and loss on the same galaxies for the same time, beside `studies/votes.py real`.

    pip install zoobot[pytorch]==2.9.0
    python studies/zoobot_tree.py --data FOLDER --valid validation_ids.csv --minutes 10 --size 32

FOLDER is the one that `votes.py real --out` makes. Zoobot's FinetuneableZoobotTree brings the head, the loss and AdamW with its
layer-wise decay; pixels and augmentation are this package's, so that no time goes into decoding images (Zoobot decodes them anew
in each epoch). From scratch a learning rate of 1e-3 is taken, ten times its default, which is meant for pretrained encoders.
"""
import argparse, time

import numpy as np
import timm
import torch

import gz_fastai.model.backbones  # noqa: F401  registers vgg7
from gz_fastai.data.catalog import *
from gz_fastai.data.loaders import *
from gz_fastai.model.learner import *
from gz_fastai.model.likelihood import *
from gz_fastai.model.metrics import *

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument('--data', required=True), p.add_argument('--valid', required=True), p.add_argument('--arch', default='resnet18')
p.add_argument('--size', type=int, default=32), p.add_argument('--minutes', type=float, default=10), p.add_argument('--lr', type=float, default=1e-3)
args = p.parse_args()

# after --help, which works without Zoobot
from zoobot.pytorch.training.finetune import FinetuneableZoobotTree
from zoobot.shared.schemas import Schema as ZoobotSchema

cat = Catalog(args.data, valid=args.valid)
dls = GalaxyDataLoaders.from_catalog(cat, size=args.size)
schema, pairs = cat.schema, {}
for c in schema.columns: pairs.setdefault(c.rpartition('_')[0], []).append('_'+c.rpartition('_')[2])
parents = {q: schema.columns[o[0]] if len(o) == 1 else None for q, o in zip(pairs, schema.parents)}
torch.manual_seed(0)
model = FinetuneableZoobotTree(schema=ZoobotSchema(pairs, parents), encoder=timm.create_model(args.arch, num_classes=0), learning_rate=args.lr)
opt = model.configure_optimizers()
opt = opt['optimizer'] if isinstance(opt, dict) else opt
half = auto_precision(torch.device('cpu'))[0] == 'bf16'
end, epochs, n = time.time()+60*args.minutes, 0, len(dls.train)
model.train()
while time.time() < end:
    for i, (x, y) in enumerate(dls.train):
        y = dict(zip(schema.columns, y.as_subclass(torch.Tensor).T))
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=half): raw = model.encoder(x.as_subclass(torch.Tensor))
        loss = model.loss(model.head(raw.float()), y).mean()
        opt.zero_grad(); loss.backward(); opt.step()
        if time.time() > end: break
    epochs += (i+1)/n
    print(f'{epochs:.1f} epochs, loss {loss.item():.2f}', flush=True)

model.eval()
with torch.no_grad(): alpha = torch.cat([model.head(model.encoder(x.as_subclass(torch.Tensor))) for x, _ in dls.valid]).numpy()
cond = np.concatenate([alpha[:, s]/alpha[:, s].sum(1, keepdims=True) for s in schema.slices], 1)
frac, counts = schema.cumulative(cond), cat.counts[cat.valid]
nll = votes_nll(alpha, counts, schema).sum(1).mean()
print(dict(what='real', loss=f'Zoobot 2.9.0, {args.arch}', rmse=galaxy_rmse(frac, cat.labels[cat.valid]), nll=nll, epochs=round(epochs, 1)))
