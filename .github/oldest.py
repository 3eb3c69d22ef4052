"""Prints the oldest packages that settings.ini allows, one a line, for pip:

    pip install -e . -r <(python .github/oldest.py)

`fastai>=2.8` becomes `fastai==2.8`; a requirement without a lower bound is left out.
"""
import re
from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters=['='])
ini.read(Path(__file__).resolve().parents[1]/'settings.ini')
for requirement in ini['DEFAULT']['requirements'].split():
    if m := re.match(r'([\w.-]+)>=([\w.]+)', requirement): print(f'{m[1]}=={m[2]}')
