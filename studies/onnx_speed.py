"""How fast and how exact exported networks are, beside PyTorch on the same pixels.

    python studies/onnx_speed.py RUN --data galaxy-zoo --valid validation_ids.csv

Scores are those of the validation galaxies. The variants in half precision and in 8 bits are made of the exported file by onnxruntime's own
tools (int8: static, per channel, calibrated on 256 training galaxies). A row per variant goes to onnx_speed.csv beside this file.
Run it on a quiet machine.
"""
import argparse, tempfile, time
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from gz_fastai.data.catalog import *
from gz_fastai.data.store import *
from gz_fastai.inference.export import *
from gz_fastai.inference.ensemble import *
from gz_fastai.inference.predictor import *
from gz_fastai.model.metrics import *
from gz_fastai.model.onnx import *

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument('run'), p.add_argument('--data', required=True), p.add_argument('--valid', required=True), p.add_argument('--batch', type=int, default=64)
p.add_argument('--seconds', type=float, default=15)
args = p.parse_args()
tmp, cat, run = Path(tempfile.mkdtemp()), Catalog(args.data, valid=args.valid), load_network(args.run)
store = Store.open(cat.files, crop=run.info['crop'], size=run.info['size'])
valid, labels = store.pixels[cat.valid], cat.labels[cat.valid]


class Calibration(CalibrationDataReader):
    "Training galaxies, batch by batch"
    def __init__(self): self.parts = iter([dict(images=store.pixels[cat.train[a:a+32]]) for a in range(0, 256, 32)])
    def get_next(self): return next(self.parts, None)


def with_metadata(file, like):
    "A file made of an exported one keeps its metadata"
    net, old = onnx.load(file), onnx.load(like)
    del net.metadata_props[:]
    net.metadata_props.extend(old.metadata_props)
    onnx.save(net, file)
    return file


def variants():
    "name -> what maps pixels to fractions, MB on the disk"
    fp32 = tmp/'fp32.onnx'
    export_file(run, fp32)
    half = tmp/'fp16.onnx'
    onnx.save(convert_float_to_float16(onnx.load(fp32), keep_io_types=True, disable_shape_infer=True), half)
    quant_pre_process(fp32, tmp/'prepared.onnx', skip_symbolic_shape=True)
    eight = tmp/'int8.onnx'
    quantize_static(tmp/'prepared.onnx', eight, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                    op_types_to_quantize=['Conv', 'Gemm', 'MatMul'])
    weights = (Path(run.path)/'model.safetensors').stat().st_size/1e6
    for precision in ('fp32', 'bf16'): yield f'PyTorch {precision}', Predictor(run, precision=precision, device='cpu'), weights
    for name, file in (('ONNX fp32', fp32), ('ONNX fp16', half), ('ONNX int8', eight)): yield name, OnnxModel(with_metadata(file, fp32), 'cpu'), file.stat().st_size/1e6


def rate(predict):
    "Images per second"
    predict(valid[:args.batch])
    start, n = time.perf_counter(), 0
    while time.perf_counter()-start < args.seconds:
        predict(valid[n % (len(valid)-args.batch):][:args.batch])
        n += args.batch
    return n/(time.perf_counter()-start)


rows, first = [], None
for name, predict, mb in variants():
    frac = np.concatenate([np.asarray(predict(valid[a:a+args.batch])) for a in range(0, len(valid), args.batch)])
    first = frac if first is None else first
    rows.append(dict(variant=name, threads=torch.get_num_threads(), size=run.info['size'], images_per_second=round(rate(predict)), megabytes=round(mb, 1),
                     rmse=round(galaxy_rmse(frac, labels), 5), largest_difference=float(f'{abs(frac-first).max():.2g}')))
    print(rows[-1], flush=True)
pd.DataFrame(rows).to_csv(Path(__file__).with_suffix('.csv'), index=False)
