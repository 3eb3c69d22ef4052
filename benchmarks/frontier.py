"""How good a network gets in the time that version 0.1.0 needed, and what was tried to get there.

    python benchmarks/frontier.py speed --data galaxy-zoo --old CHECKOUT_OF_0.1.0 --out frontier_speed.csv
    python benchmarks/frontier.py try --data galaxy-zoo --without validation_ids.csv [--only NAME ...] --out frontier_tried.csv
    python benchmarks/frontier.py score --data galaxy-zoo --valid validation_ids.csv [--only NAME ...] --out frontier.csv

`speed` times epochs of 0.1.0's default at 64 and 96 px, and of today's at several sizes, in turns: what the budgets are on this
machine. `try` trains each arm for about the time of three epochs at 64 px and scores it on a fixed split of the training galaxies
(a tenth, by the hash of their IDs), without the galaxies of `--without`. `score` trains the recipes that came out of it, and scores
them on the galaxies of `--valid`, with one view and with 16, and the mean of the seeds. The same command resumes.
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pandas as pd
from timm.models import build_model_with_cfg, register_model
from torch import nn

from gz_fastai.core import *
from gz_fastai.experiment import *
from gz_fastai.data.catalogue import *
from gz_fastai.data.store import *
from gz_fastai.inference.predict import *
from gz_fastai.model.backbones import *
from gz_fastai.model.metrics import *
from gz_fastai.model.runs import *
from gz_fastai.training.config import *
from gz_fastai.training.train import *


class Gate(nn.Module):
    "Squeeze and excitation"
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(n, n//8), nn.ReLU(), nn.Linear(n//8, n))
        nn.init.zeros_(self.fc[2].weight), nn.init.zeros_(self.fc[2].bias)
    def forward(self, x): return x*(2*self.fc(x.mean((2, 3))).sigmoid())[..., None, None]


def variant(change=None, **attrs):
    "A VGG7 with other attributes, changed after it is made"
    kind = type('VGG7', (VGG7,), attrs)
    def make(pretrained=False, **kwargs):
        net = build_model_with_cfg(kind, 'vgg7', pretrained, **kwargs)
        if change: change(net)
        return net
    return make


def gates(net):
    for b in net.blocks[2:]: b.append(Gate(b[0].out_channels))


def gelu(net):
    for b in net.blocks: b[:] = nn.Sequential(*[nn.GELU() if isinstance(o, nn.ReLU) else o for o in b])


def dirac(net):
    for b in net.blocks: nn.init.dirac_(b[0].weight.data[:b[0].in_channels])


VARIANTS = dict(vgg7_se=variant(gates), vgg7_gelu=variant(gelu), vgg7_dirac=variant(dirac))
for name, make in VARIANTS.items():
    make.__name__, make.__module__ = name, __name__
    register_model(make)

FAST = dict(size=48, epochs=5)
TRIED = {'64 px': dict(size=64, epochs=3), '48 px': FAST, '40 px': dict(size=40, epochs=7)}
