"A trained network that goes to others: a page on the hub and back, ONNX in a process of its own, and files that must not be trusted."
import base64
import hashlib
import http.server
import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import BIN
from safetensors.torch import load_file, save_file
from tiny import tiny_run

import gz_fastai
from gz_fastai.core import BadInput
from gz_fastai.inference.export import export_hub
from gz_fastai.inference.ensemble import load_network
from gz_fastai.model.backbones import galaxy_model

@pytest.fixture(scope='module')
def run(): return tiny_run(arch='resnet10t').path


class Hub(http.server.BaseHTTPRequestHandler):
    "As much of the hub's HTTP interface as huggingface_hub needs to upload and download a page"
    repos = {}      # name -> {path: bytes}

    def log_message(self, *args): pass

    def say(self, body=b'', status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in (headers | {'Content-Length': len(body)}).items(): self.send_header(k.replace('_', '-'), str(v))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def do_POST(self):
        data = self.rfile.read(int(self.headers['Content-Length']))
        host = f'http://{self.headers["Host"]}'
        if self.path == '/api/repos/create':
            said = json.loads(data)
            name = f'{said["organization"]}/{said["name"]}'
            self.repos.setdefault(name, {})
            return self.say({'url': f'{host}/{name}', 'id': name, 'name': name})
        if self.path == '/api/validate-yaml': return self.say(dict(errors=[], warnings=[]))
        name = '/'.join(self.path.split('/')[3:5])
        if '/preupload/' in self.path:
            return self.say({'files': [dict(path=o['path'], uploadMode='regular', shouldIgnore=False) for o in json.loads(data)['files']]})
        if '/commit/' in self.path:
            for line in map(json.loads, data.splitlines()):
                if line['key'] == 'file': self.repos[name][line['value']['path']] = base64.b64decode(line['value']['content'])
            return self.say({'commitUrl': f'{host}/{name}/commit/{self.sha(name)}', 'commitOid': self.sha(name), 'success': True})
        self.say(status=404)

    def sha(self, name): return hashlib.sha1(b''.join(self.repos[name].values())).hexdigest()

    def do_GET(self):
        parts = self.path.split('?')[0].strip('/').split('/')
        name = '/'.join(parts[2:4] if parts[0] == 'api' else parts[:2])
        files = self.repos.get(name)
        if files is None: return self.say({'error': 'Repository not found'}, 404, X_Error_Code='RepoNotFound')
        if 'tree' in parts: return self.say([dict(type='file', path=k, size=len(o), oid=hashlib.sha1(o).hexdigest()) for k, o in files.items()])
        if parts[0] == 'api': return self.say(dict(id=name, modelId=name, sha=self.sha(name), siblings=[dict(rfilename=o) for o in files], tags=[], private=False))
        data = files.get('/'.join(parts[4:]))
        if data is None: return self.say(b'', 404, X_Error_Code='EntryNotFound', X_Repo_Commit=self.sha(name))
        self.say(data, X_Repo_Commit=self.sha(name), ETag=f'"{hashlib.sha1(data).hexdigest()}"')
    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path):
    "The environment of a process that knows no hub but this one"
    Hub.repos = {}
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield dict(HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_HOME=str(tmp_path/'hf'), HF_HUB_DISABLE_XET='1', HF_TOKEN='hf_test',
               no_proxy='127.0.0.1', HF_HUB_OFFLINE='0')
    server.shutdown()
    server.server_close()


ELSEWHERE = '''
import sys
sys.modules['gz_fastai.training'] = None        # whoever predicts knows nothing of trainings
import gz_fastai, numpy as np
files = sys.argv[4:]
np.save(sys.argv[1], [gz_fastai.load(o).predict(files).to_numpy() for o in sys.argv[2:4]])
try: gz_fastai.load('hf-hub:me/none')
except Exception as e: print(e)
'''


@pytest.fixture
def python(hub):
    "Run Python code in a new process that reaches the stand-in of the hub"
    return lambda code, *args: subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, env=os.environ | hub)


COMMAND = 'import sys; from gz_fastai import cli; sys.argv[0] = "gz_fastai_export"; cli.export_command()'
TIMM = '''
import sys, torch, timm
x = torch.full((2, 3, 32, 32), .1)
torch.save(timm.create_model(sys.argv[2], pretrained=True).eval()(x), sys.argv[1])
'''


def test_a_page_goes_to_the_hub_and_comes_back(run, galaxies, python, tmp_path):
    files = sorted((galaxies/'images_training_rev1').iterdir())[:4]
    up = python(COMMAND, run, '--to', 'hub', '--out', tmp_path/'page', '--repo', 'me/galaxies')
    assert up.returncode == 0 and 'uploaded to' in up.stdout, up.stderr
    assert set(Hub.repos['me/galaxies']) >= {'README.md', 'config.json', 'gz_fastai.json', 'head.safetensors', 'model.safetensors'}
    page = b''.join(Hub.repos['me/galaxies'][o] for o in ('README.md', 'gz_fastai.json', 'config.json'))
    assert str(galaxies).encode() not in page and b'hf_test' not in page       # neither paths of this machine nor the token
    there = python(ELSEWHERE, tmp_path/'there.npy', run, 'hf-hub:me/galaxies', *files)
    assert there.returncode == 0 and 'no network at hf-hub:me/none' in there.stdout, there.stderr
    want = load_network(run).predict(files).to_numpy()
    assert abs(np.load(tmp_path/'there.npy')-want).max() < 1e-6
    res = python(TIMM, tmp_path/'features.pt', 'hf-hub:me/galaxies')
    assert res.returncode == 0, res.stderr
    with torch.no_grad(): body = load_network(run).model()[0][0](torch.full((2, 3, 32, 32), .1))
    assert abs(torch.load(tmp_path/'features.pt', weights_only=True)-body).max() < 1e-6


def test_without_a_network_the_page_is_there(run, command, tmp_path):
    off = dict(HF_ENDPOINT='http://127.0.0.1:9', HF_HUB_OFFLINE='0', no_proxy='127.0.0.1')
    res = command('gz_fastai_export', run, '--to', 'hub', '--out', tmp_path/'page', '--repo', 'me/galaxies', bin=BIN, **off)
    assert res.returncode == 2 and len(res.stderr.strip().splitlines()) == 1
    for part in ('cannot upload to me/galaxies', str(tmp_path/'page'), 'https://huggingface.co/me/galaxies'): assert part in res.stderr
    assert load_network(tmp_path/'page').schema == load_network(run).schema


def test_an_onnx_file_predicts(run, galaxies, command, tmp_path):
    images = galaxies/'images_training_rev1'
    res = command('gz_fastai_export', run, '--to', 'onnx', '--out', tmp_path/'run.onnx', '--images', images)
    assert res.returncode == 0 and 'differ from PyTorch' in res.stdout, res.stderr
    for source, name in ((tmp_path/'run.onnx', 'onnx.csv'), (run, 'torch.csv')):
        more = ['--precision', 'fp32'] if source == run else []
        res = command('gz_fastai_predict', source, '--images', images, '--out', tmp_path/name, *more)
        assert res.returncode == 0, res.stderr
    a, b = [pd.read_csv(tmp_path/o).set_index('GalaxyID') for o in ('onnx.csv', 'torch.csv')]
    assert (a.index == b.index).all() and abs(a-b).max(axis=None) < 1e-4
    for flags, why in ((['--precision', 'fp32'], 'own precision'), (['--std'], 'no uncertainties'), (['--views', 8], '1 view inside')):
        res = command('gz_fastai_predict', tmp_path/'run.onnx', '--images', images, '--out', tmp_path/'x.csv', *flags)
        assert res.returncode == 2 and why in res.stderr


class Poison:
    "What leaves a file behind when it is unpickled"
    def __init__(self, file): self.file = str(file)
    def __reduce__(self): return open, (self.file, 'w')


def entries(info):
    "Hostile changes to a model.json, by name"
    yield from {f'arch {o}': dict(arch=o) for o in ('os.system', '../run', 'hf-hub:me/x', 'local-dir:/tmp', 'resnet10t; import os', '__import__', '', 'a'*10**5)}.items()
    hostile = dict(checkpoint_path='x.pth', pretrained=True, pretrained_cfg=dict(file='x.pth'), pretrained_cfg_overlay=dict(url='http://127.0.0.1/x'), cache_dir='/',
                   model_cls='os.system', features_only=True, kwargs={}, scriptable=True, norm_layer='os.system', act_layer=dict(a=[[[[[1]]]]]), block='eval')
    yield from {f'args {k}': dict(args={k: v}) for k, v in hostile.items()}.items()
    yield from {f'args {o!r}': dict(args=o) for o in ([], 'x', 7, None, {'a b': 1})}.items()
    yield from {f'format {o}': dict(format=o) for o in (99, '3', -1, None, 1.5)}.items()
    yield from {f'hidden {o}': dict(hidden=o) for o in ([10**9], [-1], 'x', [1.5], [8]*10**4)}.items()
    yield from {f'{k} {o!r}'[:40]: {k: o} for k in ('activation', 'schema', 'stats', 'size', 'crop', 'trained_on', 'sha256') for o in ('__class__', {}, [], 10**12, None)}.items()


def test_poisoned_files_are_refused(run, tmp_path):
    "Nothing is executed, and nothing is loaded in silence"
    mark, tried = tmp_path/'executed', 0
    bundle = tmp_path/'bundle'
    bundle.mkdir()
    whole, info = (run/'model.safetensors').read_bytes(), json.loads((run/'model.json').read_text())

    def refused(name, weights=whole, said=info, load=lambda: load_network(bundle).model()):
        nonlocal tried
        tried += 1
        (bundle/'model.safetensors').write_bytes(weights)
        (bundle/'model.json').write_text(said if isinstance(said, str) else json.dumps(said))
        with pytest.raises(BadInput) as e: load()
        assert not mark.exists() and len(str(e.value).splitlines()) == 1, name

    for name, change in entries(info): refused(name, said=info | change)
    for text in ('', '[]', 'null', '{', '{"format": 1e999}', '['*10**5, '{"arch": "resnet10t"}'): refused(f'json {text[:20]}', said=text)
    # weights: pickles under any name, and tensors that do not belong there, with the right checksum
    pickled = pickle.dumps(Poison(mark))
    torch.save(dict(a=Poison(mark)), tmp_path/'poison.pth')
    tensors = load_file(run/'model.safetensors')
    first, *_ = tensors

    def stored(t):
        save_file(t, tmp_path/'t.safetensors')
        return (tmp_path/'t.safetensors').read_bytes()
    files = {'a pickle': pickled, 'a .pth': (tmp_path/'poison.pth').read_bytes(), 'nothing': b'', 'cut off': whole[:-9], 'a huge header': b'\xff'*8+whole,
             'missing': stored({k: v for k, v in tensors.items() if k != first}), 'extra': stored(tensors | dict(more=torch.zeros(1))),
             'misshaped': stored(tensors | {first: tensors[first].flatten()}), 'another dtype': stored(tensors | {first: tensors[first].half()}),
             'NaN': stored(tensors | {first: tensors[first]*torch.nan}), 'infinite': stored(tensors | {first: tensors[first]+torch.inf})}
    for name, data in files.items():
        refused(name, data)
        refused(f'{name}, sealed', data, info | dict(sha256=hashlib.sha256(data).hexdigest()))
    # backbones' weights, which may be PyTorch's own files
    for name in ('x.pth', 'x.bin', 'x.pkl', 'x.safetensors', 'x.pt'):
        for data in (pickled, (tmp_path/'poison.pth').read_bytes()):
            (tmp_path/name).write_bytes(data)
            refused(name, load=lambda name=name: galaxy_model('resnet10t', 37, weights=tmp_path/name))
    for name, data in {'x.onnx': pickled, 'y.onnx': (tmp_path/'poison.pth').read_bytes(), 'z.onnx': whole}.items():
        (tmp_path/name).write_bytes(data)
        refused(name, load=lambda name=name: load_network(tmp_path/name))
    assert tried > 100
    pickle.loads(pickled)      # what would have happened
    assert mark.exists()


def test_timm_reads_weights_only(tmp_path):
    "timm's own default, on which its users rely, though this package does not"
    assert inspect.signature(timm.models.load_state_dict).parameters['weights_only'].default is True


def test_code_does_not_unpickle():
    "No module calls pickle, and torch.load not without weights_only"
    for file in Path(gz_fastai.__file__).parent.rglob('*.py'):
        text = file.read_text(encoding='utf-8')
        assert not re.search(r'import pickle|pickle\.load|np\.load\([^)]*allow_pickle=True|torch\.jit\.load|export\.load\(', text), file
        for call in re.findall(r'(?<!safetensors\.)torch\.load\(.*', text): assert 'weights_only=True' in call, (file, call)


def test_a_damaged_page(run, tmp_path):
    page = export_hub(run, tmp_path/'page')
    for name in ('head.safetensors', 'model.safetensors', 'gz_fastai.json'):
        bad = shutil.copytree(page, tmp_path/f'bad-{name}')
        (bad/name).write_bytes((bad/name).read_bytes()[:-3])
        with pytest.raises(BadInput, match=name): load_network(bad).model()
        (bad/name).unlink()
        with pytest.raises(BadInput): load_network(bad).model()
