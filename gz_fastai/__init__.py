__version__ = "0.2.0.dev0"


def load(source):
    "A trained network that predicts, from the folder of a run, hf-hub:OWNER/NAME or an .onnx file: `gz_fastai.inference.ensemble.load_network`."
    from .inference.ensemble import load_network
    return load_network(source)
