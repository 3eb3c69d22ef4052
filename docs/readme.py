"""Makes README.md from nbs/index.ipynb:

    python docs/readme.py

`nbdev_readme` does that too, but needs Quarto. Links of the notebook start in `nbs/`, those of README.md beside it.
"""
import re
from pathlib import Path

from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent


def readme():
    "The text of README.md"
    text = MarkdownExporter().from_filename(ROOT/'nbs'/'index.ipynb')[0]
    return re.sub(r'(\]\()(?!https?:|#)', r'\1nbs/', text).strip()+'\n'


if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
